"""The app of the shop's workers. pytest-celery copies this file and fills in the three names that say nothing here."""

import json
import os

from celery import Celery

from tape_celery import Tape

imports = None

app = Celery("celery_test_app")
config = None

if config:
    app.config_from_object(config)
app.conf.update(json.loads(os.environ["SHOP"]))
tape = Tape(app)
