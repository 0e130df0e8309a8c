"""A proxy that counts what goes through it, and a Supabase that holds what a year leaves behind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from tests.support.supabase.project import SupabaseProject

# What a run keeps of itself comes to this where it has had many errors with long texts.
DETAIL_CHARACTERS = 300_000
_FILL = """
insert into model_metadata (model_name, model_id, algorithm, artifact_bucket, artifact_path,
    artifact_digest, artifact_size, artifact_format, state, anchor_id, created_at, lineage)
select 'default', 'v-' || n, 'LogisticRegression', 'ml-models', 'default/v-' || n, %(digest)s,
    1, 'skops', case n when 1 then 'champion' else 'retired' end, 'v-%(runs)s',
    %(now)s::timestamptz - n * interval '1 day', '{"settled_night": 1}'
from generate_series(1, %(runs)s) as n;
insert into model_retraining_runs (model_name, source, status, started_at, heartbeat_at,
    completed_at, outcome, outcome_reason, challenger_id, metrics, details)
select 'default', 'auto_daily', 'completed', t, t, t, 'promoted', repeat('because ', 30),
    'v-' || n, '{"accuracy": 0.5, "log_loss": 0.7}', jsonb_build_object(
        'place', 'here', 'champion_metrics', '{"accuracy": 0.5}'::jsonb,
        'review', (select string_agg(md5(random()::text), '') from generate_series(1, %(chunks)s)))
from (select n, %(now)s::timestamptz - n * interval '1 day' + interval '23 hours' as t
      from generate_series(1, %(runs)s) as n) as old;
insert into evaluation_log (event_id, "timestamp", event_type, model_name, model_id, match_id,
    prediction, confidence, features, actual_result, evaluated_at, metadata)
select gen_random_uuid(), t - interval '1 hour', 'prediction', 'default', 'v-' || 1 + n %% 3,
    'm' || n, case when n %% 2 = 0 then 'H' else 'A' end, 0.5 + (n %% 45) / 100.0,
    jsonb_build_object('home_team_form', n %% 7 / 7.0, 'away_team_form', n %% 11 / 11.0,
      'home_team_strength', n %% 13 / 13.0, 'away_team_strength', n %% 17 / 17.0,
      'home_advantage', 0.5),
    case when n %% 9 = 0 then null when n %% 3 = 0 then 'D' when n %% 2 = 0 then 'H' else 'A' end,
    case when n %% 9 = 0 then null else t end, '{}'::jsonb
from (select n, %(now)s::timestamptz - n * (interval '1 day' / %(rows)s) as t
      from generate_series(1, %(days)s::integer * %(rows)s::integer) as n) as old;
analyze;
"""


def fill(
    project: SupabaseProject, now: datetime, *, runs: int = 40, rows: int = 5_000, days: int = 35
) -> None:
    """So many nightly runs with large details, and so many rows a day, before `now`."""
    values: dict[str, object] = {
        "now": now, "runs": runs, "rows": rows, "days": days, "digest": "sha256:" + "ab" * 32,
        "chunks": DETAIL_CHARACTERS // 32,
    }  # fmt: skip
    for statement in _FILL.split(";\n"):
        if statement.strip():
            project.sql(statement, values if "%(" in statement else None)


@dataclass(slots=True)
class Counter:
    """How many requests and bytes came through; bytes with headers, in both directions."""

    url: str
    moved: int = 0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, data: bytes, *, is_sent: bool) -> None:
        """Take note of a piece of the traffic."""
        with self._lock:
            self.moved += len(data)
            self.requests += is_sent and data[:8].split(b" ")[0] in _METHODS

    def taken(self) -> tuple[int, int]:
        """(requests, bytes) since the last time that was asked for."""
        with self._lock:
            found = self.requests, self.moved
            self.requests = self.moved = 0
        return found


_METHODS = {b"GET", b"POST", b"PATCH", b"PUT", b"HEAD", b"DELETE"}


@contextmanager
def counting(url: str) -> Iterator[Counter]:
    """A proxy before the server at `url`; its clients go to the counter's `url`."""
    there = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as server:
        counter = Counter(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        target = (str(there.hostname), int(there.port or 80))
        threading.Thread(target=_serve, args=(server, target, counter), daemon=True).start()
        yield counter
        # A thread that waits in `accept` keeps the port.
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)


def _serve(server: socket.socket, target: tuple[str, int], counter: Counter) -> None:
    with suppress(OSError):
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(target)
            for source, sink, is_sent in ((client, upstream, True), (upstream, client, False)):
                threading.Thread(
                    target=_pass_on, args=(source, sink, counter, is_sent), daemon=True
                ).start()


def _pass_on(source: socket.socket, sink: socket.socket, counter: Counter, is_sent: bool) -> None:  # noqa: FBT001
    with suppress(OSError), source:
        while data := source.recv(1 << 16):
            counter.count(data, is_sent=is_sent)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
