"""The README's example, run as it stands there, by two profiles against a running room."""

import os
import re
import subprocess
import sys
from pathlib import Path

from lib.wire_server import serving
from passbox.access import keys
from passbox.serve import application
from passbox.settings import Settings
from passbox.state import accounts
from passbox.state.database import Database

README = Path(__file__).parent.parent / "README.md"


def test_the_example_runs(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(example.strip().splitlines()) <= 30
    settings = Settings(tmp_path / "home")
    app = application(settings)
    key = keys.load_key_file(settings.key_file)
    profiles = []
    with Database(settings.database).write() as tx:
        for account, name in (("111111111111", "airline"), ("222222222222", "bureau")):
            accounts.create(tx, account, name)
            id, secret = keys.create(tx, key, account, None, None)
            profiles.append(f"[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    (tmp_path / "credentials").write_text("\n".join(profiles))
    with serving(app) as endpoint:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_CLEANROOMS": endpoint,
            "AWS_ENDPOINT_URL_CLEANROOMSML": endpoint,
        }
        command = [sys.executable, "-c", example]
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("may pay for:") == 2
    assert "'modelTraining': {'isResponsible': True}" in ran.stdout
