"""Where the views are."""

from django.urls import path

from django_shop import views

urlpatterns = [path("orders", views.buy), path("payments/<key>", views.payment)]
