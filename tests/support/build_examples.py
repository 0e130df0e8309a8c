"""Make the data of the examples `churn` and `fraud`: made up, by these rules and a fixed seed.

    python -m tests.support.build_examples

No person, customer or payment in them is real, and nothing in them says anything about real ones.
They are this project's own and under its licence. Either world changes on the way, as real ones do:
prices rise in the second year of `churn`, and the fraudsters of `fraud` find another country and
learn to keep amounts small.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.shell import ROOT

SEED = 20_260_101
FOLDER = ROOT / "ml_pipeline" / "data"
CUSTOMERS, PAYMENTS = 1_400, 9_000
START = datetime(2024, 1, 1, tzinfo=UTC)
CHURN = ("customer_id", "renewal_on", "plan", "country", "payment", "signed_up", "autopay",
         "monthly_price", "support_calls", "satisfaction", "discount", "churned")  # fmt: skip
FRAUD = ("payment_id", "paid_at", "amount", "country", "channel", "new_device", "attempts",
         "account_days", "fraud")  # fmt: skip
PLANS = {"basic": 9.0, "plus": 15.0, "family": 24.0, "business": 49.0}
COUNTRIES = ("DE", "FR", "NL", "AT", "BE", "ES", "IT", "PL", "DK", "SE", "PT", "CZ")
WEIGHTS = (30, 20, 12, 8, 6, 6, 5, 4, 3, 3, 2, 1)


def chance(score: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-score))


def customers(draw: random.Random) -> Iterator[tuple[object, ...]]:
    """One row for each contract that came up for renewal."""
    for number in range(CUSTOMERS):
        renewal = START + timedelta(days=730 * number / CUSTOMERS)
        plan = draw.choices(list(PLANS), (45, 30, 18, 7))[0]
        country = draw.choices(COUNTRIES, WEIGHTS)[0]
        payment = draw.choices(("card", "direct debit", "invoice", "wallet"), (45, 30, 15, 10))[0]
        days = int(draw.expovariate(1 / 500)) + 30
        autopay = payment != "invoice" and draw.random() < 0.7
        is_late = number > 0.45 * CUSTOMERS
        price = PLANS[plan] * (1.25 if is_late else 1.0) * draw.uniform(0.95, 1.05)
        calls = min(12, int(draw.expovariate(0.7)))
        satisfaction = min(5, max(1, round(draw.gauss(3.8 - 0.35 * calls, 0.9))))
        discount = draw.choices(("", "spring", "loyal", "friends"), (62, 16, 14, 8))[0]
        score = (
            -1.9
            + {"plus": 0.9 if is_late else -0.3, "family": -0.8, "business": -1.3}.get(plan, 0.0)
            + {"invoice": 1.0, "wallet": 0.4}.get(payment, 0.0)
            + {"PL": 0.8, "CZ": 0.9, "PT": 0.6, "SE": -0.5}.get(country, 0.0)
            + 0.45 * calls
            - 0.55 * (satisfaction - 3)
            - 0.9 * autopay
            - 0.3 * math.log(days / 365)
            + {"spring": 0.9, "loyal": -1.0}.get(discount, 0.0)
            + (0.5 if is_late else 0.0)
        )
        yield (
            f"c{number + 1:05d}",
            renewal.date().isoformat(),
            plan,
            country,
            payment,
            (renewal - timedelta(days=days)).date().isoformat(),
            "yes" if autopay else "no",
            f"{price:.2f}" if draw.random() > 0.04 else "",
            calls,
            satisfaction if draw.random() > 0.3 else "",
            discount,
            "yes" if draw.random() < chance(score) else "no",
        )


def payments(draw: random.Random) -> Iterator[tuple[object, ...]]:
    """One row for each payment; about 2 % are fraud."""
    for number in range(PAYMENTS):
        is_late = number > 0.5 * PAYMENTS
        moment = START + timedelta(minutes=60 * 24 * 180 * number / PAYMENTS)
        # Fewer at night.
        moment += timedelta(minutes=draw.gauss(0, 90))
        amount = math.exp(draw.gauss(3.4, 1.0))
        country = draw.choices(COUNTRIES, WEIGHTS)[0]
        channel = draw.choices(("app", "web", "phone"), (55, 38, 7))[0]
        new_device = draw.random() < 0.12
        attempts = 1 + min(6, int(draw.expovariate(1.6)))
        days = int(draw.expovariate(1 / 400))
        score = (
            -5.5
            + (0.2 if is_late else 0.9) * (math.log(amount) - 3.4)
            + 2.0 * new_device
            + 0.7 * (attempts - 1)
            + (1.8 if channel == "phone" else 0.0)
            + (2.2 if country == ("CZ" if is_late else "PT") else 0.0)
            + (1.4 if country == "PL" else 0.0)
            + (1.8 if days < 30 else 0.0)
            + (0.9 if moment.hour < 6 else 0.0)
        )
        yield (
            f"p{number + 1:05d}",
            moment.strftime("%Y-%m-%dT%H:%MZ"),
            f"{amount:.2f}",
            country if draw.random() > 0.02 else "",
            channel,
            "true" if new_device else "false",
            attempts,
            days if draw.random() > 0.05 else "",
            int(draw.random() < chance(score)),
        )


def churn_csv() -> bytes:
    """The file of the example `churn`."""
    return _csv(CHURN, customers(random.Random(SEED)))


def fraud_csv() -> bytes:
    """The file of the example `fraud`, unpacked."""
    return _csv(FRAUD, payments(random.Random(SEED)))


def _csv(names: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue().encode()


def main() -> None:
    """Write both files."""
    (FOLDER / "churn_customers.csv").write_bytes(churn_csv())
    packed = gzip.compress(fraud_csv(), mtime=0)
    (FOLDER / "fraud_payments.csv.gz").write_bytes(packed)


if __name__ == "__main__":
    Path(FOLDER).mkdir(exist_ok=True)
    main()
