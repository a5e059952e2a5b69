"""Real servers and processes for the tests: no container engine, no root, loopback only.

Everything that is started here belongs to the test run that started it: own ports, own directories, stopped
by process id at the end, and by `reaper` if the run itself is killed.
"""

from tests.servers.chromium import Chromium
from tests.servers.forkserver import ForkServer
from tests.servers.local_server import LocalServer, MissingServerError
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import Postgres15Server, PostgresServer
from tests.servers.preloads import SYNCS, FailingCalls, WrongClock, wall_clock
from tests.servers.processes import Process, Processes, clean_environment, lives
from tests.servers.rabbitmq import RabbitMQServer
from tests.servers.redis import RedisServer
from tests.servers.tcp_proxy import Cut, TcpProxy
from tests.servers.waiting import until

__all__ = [
    "SYNCS",
    "Chromium",
    "Cut",
    "FailingCalls",
    "ForkServer",
    "LocalServer",
    "MariaDBServer",
    "MissingServerError",
    "Postgres15Server",
    "PostgresServer",
    "Process",
    "Processes",
    "RabbitMQServer",
    "RedisServer",
    "TcpProxy",
    "WrongClock",
    "clean_environment",
    "lives",
    "until",
    "wall_clock",
]
