"""Django's settings: one database, for the shop's tables and tape_celery's."""

import os

SECRET_KEY = os.environ.get("SHOP_SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["localhost", "testserver"]
ROOT_URLCONF = "django_shop.urls"
INSTALLED_APPS = ["django_shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SHOP_DATABASE", "shop.db"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE"},  # Django's own way to let SQLite's writers wait for each other
    }
}
