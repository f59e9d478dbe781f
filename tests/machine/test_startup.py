"""What is said of the devices when a run starts."""

from jaxrec.machine import startup


def test_a_gpu_that_lies_idle_is_announced_loudly(monkeypatch):
    monkeypatch.setattr(startup, "gpu_card", lambda: True)
    monkeypatch.setattr(startup, "_cpu_on_purpose", lambda: False)
    assert "WARNING: this machine has a GPU and JAX runs on the CPU" in startup.device_line()
    monkeypatch.undo()
    monkeypatch.setattr(startup, "gpu_card", lambda: True)  # the tests run with JAX_PLATFORMS=cpu
    assert "WARNING" not in startup.device_line()
