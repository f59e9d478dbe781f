"""The doctor, in a sound installation and in one that lacks something."""

import launch
from jaxrec.machine import doctor


def test_doctor_finds_no_trouble_in_a_sound_installation_and_names_what_is_missing(monkeypatch, capsys):
    assert launch.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for what in ("python", "jax", "devices", "data sets", "cache"):
        assert what in shown
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: ["nosuchpackage>=3", "numpy>=99"])
    assert launch.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "TROUBLE: nosuchpackage is missing. pip install 'nosuchpackage>=3'" in shown
    assert "does not fit. pip install --upgrade 'numpy>=99'" in shown
