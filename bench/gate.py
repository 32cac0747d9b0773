"""The gate alone: a query of 2 KB, of 500 KB, and what is refused for its size. Medians of CPU
milliseconds.

python -m bench.gate

"""

import statistics
import time
from collections.abc import Mapping

from passbox.analysis import Column, Purpose, Table, approve
from passbox.errors import QueryRefused

RUNNER = "444444444444"
REPEATS = 15
RULE = {
    "allowedAnalyses": ["ANY_QUERY"],
    "allowedAnalysisProviders": [RUNNER],
    "disallowedOutputColumns": ["tailnum", "time_hour"],
}
TYPES = {
    "flights": "month int, day int, hour int, carrier string, origin string, dest string, distance double, "
    "dep_delay double, arr_delay double, time_hour timestamp, tailnum string",
    "weather": "origin string, time_hour timestamp, temp double, wind_speed double, visib double",
    "planes": "tailnum string, year int, engines int, seats int",
}
QUERY = """
WITH departures AS (
    SELECT flight.month, flight.day, flight.hour, flight.carrier, flight.origin, flight.dest,
           flight.distance, flight.dep_delay, flight.arr_delay, flight.time_hour, flight.tailnum,
           CASE
               WHEN flight.dep_delay > 60 THEN 'very late'
               WHEN flight.dep_delay > 15 THEN 'late'
               ELSE 'in time'
           END AS punctuality
    FROM flights AS flight
    WHERE flight.arr_delay IS NOT NULL
      AND flight.origin IN ('JFK', 'LGA', 'EWR')
      AND flight.month BETWEEN 1 AND 6
),
fleet AS (
    SELECT plane.tailnum, plane.year AS plane_year, plane.engines, plane.seats
    FROM planes AS plane
    WHERE plane.seats >= 50
)
SELECT departure.month, departure.carrier, departure.origin, departure.punctuality,
       count(*) AS departures,
       round(avg(departure.arr_delay), 2) AS average_arrival_delay,
       round(avg(condition.temp), 1) AS average_temperature,
       max(condition.wind_speed) AS strongest_wind,
       min(condition.visib) AS worst_visibility,
       sum(CASE WHEN departure.arr_delay > 30 THEN 1 ELSE 0 END) AS late_arrivals,
       avg(machine.seats) AS average_seats,
       max(machine.plane_year) AS newest_plane
FROM departures AS departure
INNER JOIN weather AS condition
        ON departure.origin = condition.origin
       AND departure.time_hour = condition.time_hour
LEFT JOIN fleet AS machine
       ON departure.tailnum = machine.tailnum
WHERE condition.temp IS NOT NULL
  AND (condition.visib < 5 OR condition.wind_speed > 20 OR departure.dep_delay > 0)
GROUP BY departure.month, departure.carrier, departure.origin, departure.punctuality
HAVING count(*) >= 25
ORDER BY departure.month, departures DESC, departure.carrier
LIMIT 500
"""


def tables() -> dict[str, Table]:
    """Three tables under the custom rule, as in the demo."""
    receivers = {"allowedResultReceivers": [RUNNER]}
    return {
        name: Table(
            name,
            RUNNER,
            tuple(Column(*column.split(" ")) for column in columns.split(", ")),
            "CUSTOM",
            RULE,
            receivers,
        )
        for name, columns in TYPES.items()
    }


def texts() -> Mapping[str, str]:
    """What is measured: 500 KB of one string, of a list of values, of conditions, and of what is refused."""
    start = "SELECT carrier FROM flights WHERE "
    values = ",".join(f"'{number:045}'" for number in range(9_900))
    conditions = " OR ".join(f"(distance > {number} AND dest = '{number:050}')" for number in range(1_900))
    return {
        "2 KB, three tables": QUERY,
        "500 KB, one string": f"{start} carrier = '{'x' * 499_900}'",
        "480 KB, 9,900 values of IN": f"{start} carrier IN ({values})",
        "160 KB, 1,900 terms of OR": f"{start}{conditions}",
        "500 KB, only brackets": "SELECT " + "(" * 499_000,
        "500 KB, too many words": start + "distance + 1 > 2 OR " * 24_000,
    }


def measure(text: str, repeats: int = REPEATS) -> tuple[float, str]:
    """Median CPU seconds of one decision, and what it is."""
    given, purpose = tables(), Purpose(RUNNER, receivers=(RUNNER,))
    times, answer = [], "allowed"
    for _ in range(repeats):
        begun = time.process_time()
        try:
            approve(text, {}, given, purpose)
        except QueryRefused as refusal:
            answer = refusal.rule
        times.append(time.process_time() - begun)
    return statistics.median(times), answer


def main() -> None:
    """Print a line for each text."""
    approve(QUERY, {}, tables(), Purpose(RUNNER, receivers=(RUNNER,)))  # sqlglot is imported
    for name, text in texts().items():
        seconds, answer = measure(text, REPEATS if len(text) < 10_000 else 3)
        print(f"{name:30} {len(text):>9,} characters {seconds * 1000:>9,.1f} ms   {answer}")


if __name__ == "__main__":
    main()
