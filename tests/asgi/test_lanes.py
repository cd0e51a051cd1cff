"""Lanes: one request at a time runs Django's Python; waiting costs nobody a slot."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx2
import psycopg
import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.db import connection, connections, transaction

from project.accounts.models import User
from project.config import config
from project.lanes import DjangoBusy, Lane
from project.threads import RequestThread
from tests.asgi.server import PATIENCE_S, Server, serving
from tests.asgi.test_requests import in_parallel, second_connection, until


def lane(*, slots: int = 1, places: int = 9, queue: int = 9, wait_s: float = PATIENCE_S) -> Lane:
    return Lane(slots=slots, places=places, queue=queue, wait_s=wait_s)


def test_lane__full__lets_the_next_in_when_one_leaves_and_refuses_those_that_find_no_room() -> None:
    full = lane(queue=1)
    full.begin()
    with ThreadPoolExecutor() as threads:
        second = threads.submit(full.begin)
        until(lambda: full._new)
        with pytest.raises(DjangoBusy):
            full.begin()

        full.step_aside()
        second.result(PATIENCE_S)

    full.step_aside()
    full.begin()


def test_lane__no_queue__still_serves_one_at_a_time() -> None:
    narrow = lane(queue=0)
    narrow.begin()
    with pytest.raises(DjangoBusy):
        narrow.begin()
    narrow.step_aside()
    narrow.begin()


def test_lane__waits_in_vain__is_busy_and_leaves_the_line() -> None:
    busy = lane(wait_s=0.05)
    busy.begin()

    with pytest.raises(DjangoBusy):
        busy.begin()

    assert not busy._new
    busy.step_aside()
    busy.begin()


def test_lane__who_has_begun_goes_first() -> None:
    shared, order = lane(), list[str]()

    def run(take: Callable[[], None], name: str) -> None:
        take()
        order.append(name)
        shared.step_aside()

    shared.begin()
    with ThreadPoolExecutor() as threads:
        done: list[Future[None]] = [threads.submit(run, shared.begin, "began")]
        until(lambda: shared._new)
        done.append(threads.submit(run, shared.resume, "resumed"))
        until(lambda: shared._begun)
        shared.step_aside()
        for future in done:
            future.result(PATIENCE_S)

    assert order == ["resumed", "began"]


def test_lane__all_places_are_taken__begins_nobody_though_a_slot_is_free() -> None:
    small = lane(places=1, wait_s=0.05)
    small.begin()
    small.step_aside()

    with pytest.raises(DjangoBusy):
        small.begin()
    small.resume()
    small.step_aside()
    small.end()
    small.begin()


def test_lane__who_comes_back__waits_for_a_place_and_goes_before_the_new() -> None:
    small, order = lane(places=1), list[str]()

    def run(take: Callable[[], None], name: str) -> None:
        take()
        order.append(name)
        small.step_aside()
        small.end()

    small.begin()
    small.step_aside()
    with ThreadPoolExecutor() as threads:
        done: list[Future[None]] = [threads.submit(run, small.begin, "new")]
        until(lambda: small._new)
        done.append(threads.submit(run, small.come_back, "came back"))
        until(lambda: small._back)
        small.end()
        for future in done:
            future.result(PATIENCE_S)

    assert order == ["came back", "new"]


def test_request_thread__let_go__leaves_its_place_to_others_and_comes_back_for_another() -> None:
    thread, small = RequestThread(), lane(places=1)
    thread.lane = small
    thread.submit(threading.get_ident).result(PATIENCE_S)
    thread.let_go()
    small.begin()
    again = thread.submit(threading.active_count)
    until(lambda: small._back)
    small.step_aside()
    small.end()

    again.result(PATIENCE_S)
    thread.finish()
    small.begin()

    with pytest.raises(RuntimeError, match="over"):
        thread.submit(threading.active_count)


def test_request_thread__its_connection_cannot_be_closed__the_place_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("injected fault")

    thread, small = RequestThread(), lane(places=1)
    thread.lane = small
    thread.submit(threading.active_count).result(PATIENCE_S)
    monkeypatch.setattr(connections, "close_all", fail)
    thread.finish()

    small.begin()


def test_django__busy_in_python__runs_one_request_at_a_time(server: Server, database: str) -> None:
    answers = in_parallel(server, *["/test/overlap?seconds=0.1"] * 5)

    assert [answer.text for answer in answers] == ["1"] * 5, "each page was alone in Python"


@pytest.mark.postgresql
def test_django__waiting_for_the_database__lets_others_run(server: Server, database: str) -> None:
    slow, *quick = in_parallel(server, "/test/sleep-in-database?seconds=2", *["/test/overlap?seconds=0.1"] * 3)

    assert slow.status_code == 200
    assert [answer.status_code for answer in quick] == [200] * 3
    assert max(answer.elapsed for answer in quick) < slow.elapsed


def commit(alice: User) -> None:
    """PostgreSQL checks Django's foreign keys at COMMIT."""
    with transaction.atomic():
        LogEntry.objects.create(user_id=alice.pk, action_flag=ADDITION, object_repr="anything")


def fetch(_alice: User) -> None:
    """A cursor of the server's does its work when it is fetched from."""
    with transaction.atomic():
        list(User.objects.select_for_update().iterator())


def copy(_alice: User) -> None:
    with connection.cursor() as cursor, cursor.copy("copy (select pg_advisory_xact_lock(1)) to stdout") as rows:
        list(rows)


def call_procedure(_alice: User) -> None:
    with connection.cursor() as cursor:
        cursor.callproc("pg_advisory_xact_lock", [1])


IS_WAITING = "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@pytest.mark.postgresql
@pytest.mark.parametrize("wait", [commit, fetch, copy, call_procedure])
def test_django__waits_for_a_lock_in_postgresql__lets_others_run(wait: Callable[[User], None], alice: User) -> None:
    """None of these passes Django's ``execute_wrapper``."""
    shared, thread = lane(), RequestThread()
    thread.lane = shared
    with psycopg.connect(config.database) as other:
        other.execute("select pg_advisory_xact_lock(1) from accounts_user where id = %s for update", [alice.pk])
        waiting = thread.submit(wait, alice)
        until(lambda: second_connection(f"select 1 from {IS_WAITING}"))
        shared.begin()  # Somebody else's page.
        shared.step_aside()
        assert not waiting.done()
    waiting.result(PATIENCE_S)
    thread.finish()


@pytest.mark.postgresql
def test_django__commit_waits_for_a_page_that_waits_for_its_turn__both_are_served(alice: User) -> None:
    is_locked, is_committing, shared = threading.Event(), threading.Event(), lane()

    def lock_alice() -> None:
        with transaction.atomic():
            User.objects.select_for_update().get(pk=alice.pk)
            is_locked.set()
            while not is_committing.is_set():
                User.objects.exists()

    def refer_to_alice() -> None:
        with transaction.atomic():
            LogEntry.objects.create(user_id=alice.pk, action_flag=ADDITION, object_repr="anything")
            is_committing.set()

    pages = [RequestThread(), RequestThread()]
    for page in pages:
        page.lane = shared
    locking = pages[0].submit(lock_alice)
    assert is_locked.wait(PATIENCE_S)
    referring = pages[1].submit(refer_to_alice)
    try:
        locking.result(PATIENCE_S)
        referring.result(PATIENCE_S)
    finally:
        second_connection(f"select pg_terminate_backend(pid) from {IS_WAITING}")  # Or it would never end.
        for page in pages:
            page.finish()


@pytest.mark.skipif(sys.platform != "linux", reason="no other kernel is asked to")
def test_lane__whose_turn_has_come__gives_up_what_the_kernel_owes_for_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    gave_up, shared = list[int](), lane()
    monkeypatch.setattr(os, "sched_yield", lambda: gave_up.append(threading.get_ident()))

    def visit(take: Callable[[], None]) -> int:
        take()
        shared.step_aside()
        return threading.get_ident()

    shared.begin()
    with ThreadPoolExecutor() as threads:
        new = threads.submit(visit, shared.begin)
        until(lambda: shared._new)
        again = threads.submit(visit, shared.resume)
        until(lambda: shared._begun)
        assert gave_up == [threading.get_ident()], "the others still wait"
        shared.step_aside()
        turns = [again.result(PATIENCE_S), new.result(PATIENCE_S)]

    assert gave_up[1:] == turns


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a niceness for each thread")
def test_django_thread__leaves_the_core_to_the_event_loop_and_the_loop_as_it_is() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    thread, before = RequestThread(), niceness()
    in_django = thread.submit(niceness).result(PATIENCE_S)
    thread.finish()

    assert (in_django, niceness()) == (min(before + config.django_niceness, 19), before)


def test_sign_in__while_django_is_busy__is_not_delayed(database: str, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "log", app="tests.asgi.apps:app", env={"DATABASE_URL": database}) as server,
        ThreadPoolExecutor() as threads,
    ):
        slow = threads.submit(httpx2.get, f"{server.url}/test/overlap?seconds=4", timeout=PATIENCE_S)
        server.until_logged("page began")
        sign_in = httpx2.get(f"{server.url}/admin/login/", timeout=PATIENCE_S)
        was_still_busy = not slow.done()
        slow.result(PATIENCE_S)

    assert sign_in.status_code == 200
    assert was_still_busy


def test_django__queue_is_full__answers_503_and_the_api_goes_on(database: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": database, "DJANGO_QUEUE": "1", "DJANGO_WAIT_S": "0.5"}
    with serving(tmp_path / "log", app="tests.asgi.apps:app", env=env) as server:
        with ThreadPoolExecutor() as threads:
            slow = threads.submit(httpx2.get, f"{server.url}/test/overlap?seconds=4", timeout=PATIENCE_S)
            server.until_logged("page began")
            crowd = in_parallel(server, *["/test/overlap?seconds=0"] * 3)
            api = httpx2.get(f"{server.url}/api/v1/openapi.json", timeout=PATIENCE_S)
            slow.result(PATIENCE_S)
        afterwards = httpx2.get(f"{server.url}/test/overlap?seconds=0", timeout=PATIENCE_S)

    assert [answer.status_code for answer in crowd] == [503] * 3
    assert crowd[0].headers["retry-after"] == "5"
    assert slow.result().status_code == api.status_code == afterwards.status_code == 200
