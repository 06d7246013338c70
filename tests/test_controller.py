"""What the controller knows of workers, and whom it chooses."""

from __future__ import annotations

import logging

import pytest
from serving import Address, local_controller, models_of


def test_a_worker_that_falls_silent_is_dropped() -> None:
    status = {"model_names": ["ghost"], "speed": 1, "queue_length": 0}
    body = {"worker_name": "http://127.0.0.1:9", "check_heart_beat": True, "worker_status": status}
    beat = {"worker_name": "http://127.0.0.1:9", "queue_length": 3}
    with local_controller(expiration_s=1) as controller:
        assert controller.post("/register_worker", body).status_code == 200
        assert models_of(controller) == ["ghost"]
        assert controller.post("/receive_heart_beat", beat).json() == {"exist": True}
        controller.wait(lambda: models_of(controller) == [], 15)


def test_a_worker_speaks_for_its_own_machine_or_has_the_token(caplog: pytest.LogCaptureFixture) -> None:
    status = {"model_names": ["m"], "speed": 1, "queue_length": 0}

    def register(controller: Address, name: str, **headers: str) -> int:
        body = {"worker_name": name, "check_heart_beat": False, "worker_status": status}
        return controller.post("/register_worker", body, headers=headers).status_code

    with caplog.at_level(logging.INFO), local_controller() as open_, local_controller("t0ken") as closed:
        assert register(open_, "http://localhost:21002") == 200
        assert register(open_, "http://192.0.2.7:21002") == 403
        assert register(open_, "file:///etc/passwd") == 422
        assert register(open_, "http://127.0.0.1:21002/path?x=1") == 422
        assert register(closed, "http://localhost:21002") == 401
        assert register(closed, "http://192.0.2.7:21002", authorization="Bearer wrong") == 401
        assert register(closed, "http://192.0.2.7:21002", authorization="Bearer t0ken") == 200
    assert "registered" in caplog.text
    assert "t0ken" not in caplog.text


def test_the_shortest_queue_and_the_lottery_choose_among_workers() -> None:
    from judgelm.serve.registry import Controller, Place, WorkerStatus

    shortest, lottery = Controller("shortest_queue"), Controller("lottery")
    for controller in (shortest, lottery):
        for name, speed, queue in (("a", 1, 4), ("b", 1, 0), ("c", 3, 9)):
            status = WorkerStatus(model_names=["m"], speed=speed, queue_length=queue)
            assert controller.register_worker(name, False, status, False, Place(name, frozenset()))
        assert controller.get_worker_address("other") == ""
    assert [shortest.get_worker_address("m") for _ in range(5)] == ["b", "b", "b", "b", "c"]
    drawn = [lottery.get_worker_address("m") for _ in range(3000)]
    assert {name: round(drawn.count(name) / 3000, 1) for name in "abc"} == {"a": 0.2, "b": 0.2, "c": 0.6}
