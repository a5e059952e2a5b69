"""A real RabbitMQ 3.10 on Erlang, from Debian's packages, unpacked or installed.

The virtual machine is a child process of ours, without the scripts around it. It is one node that nobody can
join: it opens one port, AMQP's, on loopback, and neither listens to other nodes nor has an epmd. What one asks
`rabbitmqctl` elsewhere, the node answers here at once, through a socket file in its directory.
"""

import itertools
import secrets
import socket
import struct
import urllib.parse
from pathlib import Path

import amqp

from tests.servers import debian
from tests.servers.local_server import LocalServer

_USER = "tape"
_SOCKET = "evaluate.sock"

# Evaluates what comes over the socket file, one expression after the other; the length of each goes before it.
_EVALUATOR = """
rabbit:await_startup(),
ok = supervisor:terminate_child(rabbit_sup, rabbit_epmd_monitor_sup),  % once a minute it would start an epmd
spawn(fun() ->
    file:delete("SOCKET"),
    {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, "SOCKET"}}, binary, {packet, 4}, {active, false}]),
    Evaluate = fun(Text) ->
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        Value
    end,
    Serve = fun Serve() ->
        {ok, Socket} = gen_tcp:accept(Listener),
        catch begin
            {ok, Text} = gen_tcp:recv(Socket, 0),
            {Mark, Answer} = try {"+", Evaluate(Text)} catch Class:Reason -> {"-", {Class, Reason}} end,
            gen_tcp:send(Socket, unicode:characters_to_binary([Mark, io_lib:format("~0tp", [Answer])]))
        end,
        gen_tcp:close(Socket),
        Serve()
    end,
    Serve()
end).
""".replace("SOCKET", _SOCKET)


class RabbitMQServer(LocalServer):
    """RabbitMQ on loopback, with one user who may do everything and has a random password.

    Durable queues, and persistent messages that were confirmed, survive `kill9`.
    """

    name = "rabbitmq"

    def __init__(self) -> None:
        self._install = debian.installation(debian.RABBITMQ)
        self._password = secrets.token_urlsafe(12)
        self._numbers = itertools.count(1)
        super().__init__()
        self._applications = self._install.file("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins")
        self._plugins = self.directory / "plugins"
        self._plugins.mkdir()
        server = self._install.file("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/rabbit-*")
        (self._plugins / server.name).symlink_to(server)  # alone: it would read and check all plugins, to use none
        self._config = self.directory / "rabbitmq.config"
        self._config.write_text(f"""
[{{rabbit, [
    {{tcp_listeners, [{{"{self.host}", {self.port}}}]}},
    {{default_user, <<"{_USER}">>}},
    {{default_pass, <<"{self._password}">>}},
    {{disk_free_limit, 1000000}}
]}}].
""")
        self._config.chmod(0o600)

    @property
    def url(self) -> str:
        """Its virtual host `/`, as Celery takes it. Tests use `fresh_vhost`."""
        return self.vhost_url("/")

    def vhost_url(self, vhost: str) -> str:
        """A virtual host of this server, as Celery takes it."""
        name = urllib.parse.quote(vhost, safe="")
        return f"amqp://{_USER}:{self._password}@{self.host}:{self.port}/{name}"

    def fresh_vhost(self) -> str:
        """Create a virtual host without queues and return its URL."""
        vhost = f"tape_{next(self._numbers)}"
        everything = ", ".join(['<<".*">>'] * 3)
        self.evaluate(f"""
            ok = rabbit_vhost:add(<<"{vhost}">>, <<"{_USER}">>),
            ok = rabbit_auth_backend_internal:set_permissions(
                <<"{_USER}">>, <<"{vhost}">>, {everything}, <<"{_USER}">>).
        """)
        return self.vhost_url(vhost)

    def drop_vhost(self, url: str) -> None:
        """Delete the virtual host of `url` and its queues, ending the connections that are still open to it."""
        vhost = urllib.parse.unquote(url.rpartition("/")[2])
        self.evaluate(f'rabbit_vhost:delete(<<"{vhost}">>, <<"{_USER}">>).')

    def evaluate(self, expressions: str) -> str:
        """What `rabbitmqctl eval` does: have the node evaluate Erlang, ended by a full stop, and return the value."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(self.directory / _SOCKET))
            text = expressions.encode()
            connection.sendall(struct.pack("!I", len(text)) + text)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))[4:].decode()
        if not answer.startswith("+"):
            raise RuntimeError(f"RabbitMQ could not evaluate {expressions.strip()}: {answer[1:]}")
        return answer[1:]

    def connect(self, url: str | None = None) -> amqp.Connection:
        """A plain AMQP connection, to look at things behind the code under test."""
        connection = amqp.Connection(
            f"{self.host}:{self.port}",
            userid=_USER,
            password=self._password,
            virtual_host=urllib.parse.unquote((url or self.url).rpartition("/")[2]),
            connect_timeout=5,
            read_timeout=20,
        )
        connection.connect()
        return connection

    def _command(self) -> list[str | Path]:
        return [
            self._install.file("usr/lib/erlang/erts-*/bin/erlexec"),
            *("-noinput", "-boot", "start_sasl", "-s", "rabbit", "boot", "-eval", _EVALUATOR),
            *("-sname", "tape@localhost", "-start_epmd", "false", "-dist_listen", "false"),
            *("-erl_epmd_port", "1"),  # it reports the port on which other nodes reach it, and there is none
            *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
            *("-kernel", "prevent_overlapping_partitions", "false"),
            *("+W", "w", "+S", "2:2", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
        ]

    def _environment(self) -> dict[str, str]:
        inherited = {
            name: value for name, value in super()._environment().items() if not name.startswith(("RABBITMQ_", "ERL"))
        }
        erlang = self._install.root / "usr/lib/erlang"
        return {
            **inherited,
            **self._install.environment,
            "HOME": str(self.directory),
            "ROOTDIR": str(erlang),
            "BINDIR": str(self._install.file("usr/lib/erlang/erts-*/bin")),
            "EMU": "beam",
            "PROGNAME": "erl",
            "ERL_LIBS": str(self._applications),
            "ERL_MAX_ETS_TABLES": "50000",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_NODENAME": "tape@localhost",
            "RABBITMQ_CONFIG_FILE": str(self._config),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "none"),
            "RABBITMQ_PLUGINS_DIR": str(self._plugins),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(self.directory / "expanded"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.directory / "feature_flags"),
            "RABBITMQ_MNESIA_BASE": str(self.directory),
            "RABBITMQ_MNESIA_DIR": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_LOGS": "-",
        }

    def _answers(self) -> bool:
        try:
            self.connect().close()
            return self.evaluate("rabbit:is_running().") == "true"
        except (OSError, amqp.exceptions.AMQPError):
            return False
