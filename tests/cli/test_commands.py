"""The commands, as a person types them: what they print, their JSON, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from celery.bin.celery import celery
from click.testing import Result

from tape_celery import Tape
from tape_celery.cli import group, looking
from tape_celery.records import EffectStatus
from tests.cli.steps import Scripted, stuck
from tests.servers import Processes
from tests.store.steps import execute

SHOP = """
from celery import Celery
from tape_celery import Tape, cli, connectors
from tape_celery.connectors.base import DispatchResult

class Lost:
    name = "lost"
    can_observe = False
    def dispatch(self, effect):
        return DispatchResult("unknown")

app = Celery("shop", broker="memory://")
tape = Tape(app, store_url={url!r})
connectors.register(Lost())
"""


def test_status_says_by_its_exit_code_who_is_needed(tape: Tape, run: Callable[..., Result]) -> None:
    """0 nothing waits for anyone, 1 something is UNKNOWN, 2 something is STUCK."""
    assert run("status").exit_code == 0
    key = tape.effect.delay("scripted", {"a": 1}, business_key="b").id
    assert run("status").exit_code == 0
    tape.dispatch(key)
    assert run("status").exit_code == 1
    stuck(tape)
    shown = run("status")
    assert shown.exit_code == 2
    assert "STUCK" in shown.output
    told = json.loads(run("status", "--json").output)
    assert {(row["status"], row["number"]) for row in told["effects"]} == {("UNKNOWN", 1), ("STUCK", 1)}


def test_status_counts_no_further_than_anybody_needs(
    tape: Tape, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it takes no longer when more is kept; who wants the number asks for it."""
    monkeypatch.setattr(looking, "COUNTED", 2)
    for number in range(3):
        tape.effect.delay("scripted", {"a": number}, business_key=f"p-{number}")
    stuck(tape)
    assert "2+" in run("status").output
    told = json.loads(run("status", "--json").output)["effects"]
    assert {(row["status"], row["number"], row["more"]) for row in told} == {("PENDING", 2, True), ("STUCK", 1, False)}
    told = json.loads(run("status", "--json", "--exact").output)["effects"]
    assert {(row["status"], row["number"], row["more"]) for row in told} == {("PENDING", 3, False), ("STUCK", 1, False)}
    owed = next(effect.effect_key for effect in tape.effects(status="STUCK"))
    tape.resolve(owed, "confirmed", reason="seen", actor="test", external_ref="r-1")
    tape.owe(owed, reason="wrong", actor="test")
    assert [(count.status, count.number, count.more) for count in tape.obligation_counts(at_most=2)] == [
        ("PENDING", 1, False)
    ]


def test_status_names_connectors_that_nobody_here_knows(tape: Tape, run: Callable[..., Result]) -> None:
    tape.effect.delay("nobody.knows", {"a": 1}, business_key="b")
    assert "no connector here is named nobody.knows" in run("status").output


def test_names_from_outside_are_no_markup(tape: Tape, run: Callable[..., Result]) -> None:
    """Keys, connectors and reasons may hold brackets: they are shown, and no command falls over them."""
    key = tape.effect.apply_async(("bank[/]", {}), {"business_key": "[red]b[/x]"}, task_id="[/key]").id
    for command in (("status",), ("list",), ("show", key)):
        shown = run(*command)
        assert shown.exit_code == 0, shown.output
        assert "bank[/]" in shown.output
    assert "[/key]" in run("list").output


def test_list_and_show_tell_what_happened(tape: Tape, run: Callable[..., Result]) -> None:
    key = stuck(tape)
    other = tape.effect.delay("scripted", {"a": 2}, business_key="b-2", run_id="r-2").id
    assert key in run("list").output
    assert key not in run("list", "--run", "r-2").output
    assert [e["effect_key"] for e in json.loads(run("list", "--status", "PENDING", "--json").output)] == [other]
    shown = run("show", key)
    assert "nothing can observe it" in shown.output
    told = json.loads(run("show", key, "--json").output)
    assert told["request"] == {"amount": 1}
    assert [entry["kind"] for entry in told["journal"]] == ["recorded", "claimed", "unknown", "look", "unobservable"]
    assert "claim_nonce" not in told


def test_explain_says_in_words_what_may_be_done(tape: Tape, run: Callable[..., Result]) -> None:
    """The words are `tests/explanation`'s; here are the parts, in both forms."""
    key = stuck(tape)
    shown = run("explain", key)
    assert shown.exit_code == 0, shown.output
    for words in (f"{key} is STUCK (version 5", "What happened", "What comes next", "resolve-failed (check first)"):
        assert words in shown.output
    told = json.loads(run("explain", key, "--json").output)
    assert (told["kind"], told["status"], told["version"]) == ("effect", "STUCK", 5)
    assert [(act["name"], act["safe"]) for act in told["acts"]] == [
        ("observe", True), ("resolve-confirmed", False), ("resolve-failed", False),
    ]  # fmt: skip
    assert run("explain", "nothing").exit_code == group.REFUSED


def test_resolve_needs_a_reason_and_tells_the_state_after_it(tape: Tape, act: Callable[..., Result]) -> None:
    key = stuck(tape)
    assert act("resolve", key, "--as", "confirmed").exit_code == group.MISUSED
    done = act("resolve", key, "--as", "confirmed", "--reason", "seen on the statement", "--external-ref", "BK-1")
    assert (done.exit_code, done.output.strip()) == (0, f"{key} is CONFIRMED")
    effect = tape.get(key)
    assert effect is not None
    assert (effect.status, effect.external_ref) == (EffectStatus.CONFIRMED, "BK-1")
    again = act("resolve", key, "--as", "failed", "--reason", "no, it is not")
    assert again.exit_code == group.REFUSED
    assert "is CONFIRMED: resolve as failed is not allowed" in again.output


def test_reissue_names_the_successor_once_and_again(tape: Tape, act: Callable[..., Result]) -> None:
    """The second time as the reason for its refusal."""
    key = tape.effect.delay("scripted", {"a": 1}, business_key="b").id
    assert act("reissue", key, "--reason", "not yet asked").exit_code == group.REFUSED
    tape.cancel(key, reason="not yet", actor="ann")
    told = json.loads(act("reissue", key, "--reason", "now it is so", "--actor", "bob", "--json").output)
    assert told["reissue_of"] == key
    assert tape.journal(told["effect_key"])[0].actor == "human:bob"
    again = act("reissue", key, "--reason", "now it is so")
    assert (again.exit_code, told["effect_key"] in again.output) == (group.REFUSED, True)


def test_what_is_held_needs_a_person_who_releases_it(
    tape: Tape, run: Callable[..., Result], act: Callable[..., Result]
) -> None:
    """`status` ends with 2 until then."""
    rule = {"fields": ["a"], "within": 60}
    keys = [tape.effect.delay("scripted", {"a": 1}, business_key=b, hold_similar=rule).id for b in ("b-1", "b-2")]
    assert run("status").exit_code == 2
    assert [e["effect_key"] for e in json.loads(run("list", "--status", "HELD", "--json").output)] == [keys[1]]
    shown = run("show", keys[1])
    assert f"looks like effect {keys[0]}" in " ".join(shown.output.split())
    done = act("release", keys[1], "--reason", "two invoices")
    assert (done.exit_code, done.output.strip()) == (0, f"{keys[1]} is PENDING")
    assert run("status").exit_code == 0
    assert act("release", keys[1], "--reason", "once again").exit_code == group.REFUSED


def test_compensate_run_closes_it_and_shows_what_it_owes(tape: Tape, act: Callable[..., Result]) -> None:
    """A run that nothing is in is refused by its name; one that is STUCK ends with 2."""
    landed, pending = (tape.effect.delay("scripted", {"a": a}, business_key=f"b-{a}", run_id="order").id for a in "12")
    tape.dispatch(landed)
    tape.resolve(landed, "confirmed", reason="seen", actor="ann", external_ref="BK-1")
    refused = act("compensate-run", "ordr", "--reason", "not yet asked")
    assert (refused.exit_code, "NoSuchRun: no effect is in run 'ordr'" in refused.output) == (group.REFUSED, True)
    shown = act("compensate-run", "order", "--reason", "a customer's return")
    assert shown.exit_code == 0, shown.output
    assert "run order is COMPENSATING" in shown.output
    assert pending in shown.output
    assert "BK-1" in shown.output
    told = json.loads(act("compensate-run", "order", "--reason", "a customer's return", "--json").output)
    assert (told["status"], told["closing_reason"]) == ("COMPENSATING", "a customer's return")
    assert {effect["effect_key"]: effect["status"] for effect in told["effects"]}[pending] == "CANCELLED"
    assert [debt["effect_key"] for debt in told["obligations"]] == [landed]
    stuck_key = tape.effect.delay("scripted", {"a": 3}, business_key="b-3", run_id="other").id
    tape.dispatch(stuck_key)
    Scripted.can_observe = False
    tape.observe(stuck_key)
    Scripted.can_observe = True
    shown = act("compensate-run", "other", "--reason", "a customer's return")
    assert (shown.exit_code, f"effect {stuck_key} is STUCK" in shown.output) == (2, True)


def test_what_does_not_exist_is_named(run: Callable[..., Result]) -> None:
    refused = run("show", "nothing")
    assert (refused.exit_code, "'nothing'" in refused.output) == (group.REFUSED, True)


def test_prune_counts_what_went_and_show_tells_what_is_left(
    tape: Tape, run: Callable[..., Result], tmp_path: Path
) -> None:
    """A key that was pruned shows its outcome and nothing more."""
    key = tape.effect.delay("scripted", {"a": 1}, business_key="b").id
    tape.cancel(key, reason="not wanted", actor="ann")
    refused = run("prune")
    assert (refused.exit_code, "tape_retention_days is not set" in refused.output) == (group.REFUSED, True)
    assert run("prune", "--older-than", "0.5").exit_code == group.REFUSED
    assert run("prune", "--older-than", "2", "--dry-run").output.strip() == "0 effects could be pruned"
    tape.database.shift_ms += 3 * 86_400_000
    assert run("prune", "--older-than", "2", "--dry-run").output.strip() == "1 effects could be pruned"
    file = str(tmp_path / "pruned.jsonl")
    done = run("prune", "--older-than", "2", "--export", file)
    assert done.exit_code == 0, done.output
    assert done.output.strip() == "pruned: 1 effects, 0 obligations, 0 callbacks, 2 journal entries"
    assert json.loads(Path(file).read_text())["effect"]["effect_key"] == key
    again = run("prune", "--older-than", "2", "--export", file)
    assert (again.exit_code, "ExportTargetExists" in again.output) == (group.REFUSED, True)
    assert json.loads(run("prune", "--older-than", "2", "--json").output)["effects"] == 0
    shown = run("show", key)
    assert shown.exit_code == 0, shown.output
    assert "CANCELLED" in shown.output
    assert "pruned" in shown.output
    told = json.loads(run("show", key, "--json").output)
    assert (told["status"], told["reason"], told["request"]) == ("CANCELLED", "pruned", {})
    assert told["journal"] == told["obligations"] == []


def test_export_writes_a_new_file_and_counts(tape: Tape, run: Callable[..., Result], tmp_path: Path) -> None:
    key = tape.effect.delay("scripted", {"a": 1}, business_key="b").id
    file = str(tmp_path / "all.jsonl")
    done = run("export", file)
    assert done.exit_code == 0, done.output
    told = f"exported: 1 effects, 0 obligations, 0 callbacks, 1 journal entries; the last is {key}"
    assert done.output.strip() == told
    assert json.loads(Path(file).read_text())["effect"]["effect_key"] == key
    again = run("export", file)
    assert (again.exit_code, f"ExportTargetExists: {file}" in again.output) == (group.REFUSED, True)
    old = json.loads(run("export", f"{file}.old", "--older-than", "2", "--json").output)
    assert (old["effects"], old["watermark"]) == (0, "")


def test_sweep_and_audit_say_what_they_did_and_found(tape: Tape, run: Callable[..., Result]) -> None:
    key = tape.effect.apply_async(("scripted", {"a": 1}), {"business_key": "b"}, expires=0.1).id
    tape.database.shift_ms += 60_000
    assert run("audit", "--live").exit_code == 2
    assert json.loads(run("sweep", "--json").output)["expired"] == 1
    assert tape.handle(key).status is EffectStatus.CANCELLED
    clean = run("audit", "--live")
    assert (clean.exit_code, clean.output.strip()) == (0, "0 violations")


def test_the_chain_is_verified_and_its_heads_are_kept(tape: Tape, run: Callable[..., Result], tmp_path: Path) -> None:
    """What was changed is named, with exit code 2; a history that was made anew, by the heads of before."""
    key = stuck(tape)
    file, later = str(tmp_path / "heads"), str(tmp_path / "later")
    clean = run("audit", "--chain", "--heads", file)
    number = len(tape.journal(key))
    assert (clean.exit_code, clean.output.strip()) == (0, f"0 violations in {number} entries")
    last = tape.journal(key)[-1]
    assert Path(file).read_text() == f"{key} {key} {number} {last.digest}\n"
    assert run("audit", "--chain", "--against", file).exit_code == 0

    change = partial(execute, tape.database)
    change("UPDATE tape_journal SET actor = 'nobody' WHERE seq = :seq", seq=number)
    found = run("audit", "--chain")
    assert (found.exit_code, found.output.splitlines()[-1]) == (2, f"1 violations in {number} entries")
    assert f"{key}: violates: an entry is as it was written" in found.output
    told = json.loads(run("audit", "--chain", "--json").output)
    assert [one["key"] for one in told["violations"]] == [key]
    assert (told["entries"], told["unchained"], told["watermark"]) == (number, 0, "")

    change("UPDATE tape_journal SET actor = :actor WHERE seq = :seq", actor=last.actor, seq=number)
    change("DELETE FROM tape_journal")
    change("DELETE FROM tape_effects")
    assert run("audit", "--chain", "--heads", later).exit_code == 0
    assert run("audit", "--chain", "--against", file).exit_code == 2
    assert run("audit", "--chain", "--against", later).exit_code == 0


def test_chains_have_options_of_their_own(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("audit", "--heads", str(tmp_path / "heads")).exit_code == group.MISUSED
    assert run("audit", "--chain", "--live").exit_code == group.MISUSED
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("no head\n")
    refused = run("audit", "--chain", "--against", str(nonsense))
    assert (refused.exit_code, "line 1 of" in refused.output) == (group.REFUSED, True)


def test_text_from_outside_cannot_dress_up(tape: Tape, run: Callable[..., Result]) -> None:
    """Control characters are escaped, and what looks like rich markup is printed as it is."""
    key = tape.effect.delay("scripted", {"note": "[bold]\x1b[2J"}, business_key="[red]x[/]").id
    tape.cancel(key, reason="[/bold]\x1b[2J\x07 " + "z" * 2_000, actor="[red]ann[/]\x1b]0;t")
    for shown in (run("list"), run("show", key), run("explain", key), run("run", str(key))):
        assert shown.exit_code == 0, shown.output
        assert "[red]" in shown.output
        assert "\x1b" not in shown.output
    for asked in (
        ("show", "\x1b[2J"),
        ("explain", "[red]"),
        ("run", "\x1b[2J"),
        ("cancel", "\x07", "--reason", "\x1b of ten letters", "--seen-version", "1"),
    ):
        refused = run(*asked)
        assert refused.exit_code == group.REFUSED, asked
        assert "\x1b" not in refused.output
        assert "\x07" not in refused.output
    assert run("list", "--connector", "\x1b[2J", "--business-key", "x" * 100_000).exit_code == 0


def test_the_group_hangs_on_celery_itself(processes: Processes, sqlite_url: str, tmp_path: Path) -> None:
    """`celery -A shop tape …`, and an app without a Tape is told what to do."""
    assert "tape" in celery.commands
    (tmp_path / "shop.py").write_text(SHOP.format(url=sqlite_url))
    (tmp_path / "bare.py").write_text("from celery import Celery\napp = Celery('bare')\n")
    migrated = processes.python("-m", "celery", "-A", "shop", "tape", "migrate", cwd=tmp_path)
    bare = processes.python("-m", "celery", "-A", "bare", "tape", "status", cwd=tmp_path)
    assert migrated.wait() == 0
    assert bare.wait() == group.REFUSED
    assert "has no Tape" in bare.text()
    again = processes.python("-m", "celery", "-A", "shop", "tape", "status", "--json", cwd=tmp_path)
    assert again.wait() == 0
    assert '"lost"' in again.text()
