"""ClickHouse (chdb) and DuckDB on the engine benchmark's stream.

    peers.py STREAM WORK clickhouse|duckdb SPEC

STREAM is the folder of day files; WORK is where the peer keeps its tables, which are made once; SPEC is what is asked, as the
JSON object that `engine/questions.rs` makes. Prints one JSON object per question:

    {"question": …, "answer": rows, "seconds": [of each run], "layout": …}

ClickHouse is asked in two sort orders. An answer is a list of rows of whole numbers and texts, sorted, so that it can be compared
with ours cell by cell. To add a question: a line in SPEC's `questions`, and a statement in each of the two tables below.
"""

import json
import os
import re
import sys
import time

RUNS = 5
# A question that takes longer than this is asked less often.
PATIENCE_S = 20.0


def texts(names):
    return ", ".join(f"'{name}'" for name in names)


def clickhouse_statements(spec):
    steps = spec["steps"]
    conditions = ", ".join(f"event = '{step}'" for step in steps)
    depths = ", ".join(f"countIf(depth >= {k})" for k in range(1, len(steps) + 1))
    return {
        "funnel": f"""
            select {depths} from (
                select person, windowFunnel({spec["window_ms"]})(toUInt64(ts), {conditions}) as depth
                from T where event in ({texts(steps)}) group by person)""",
        "retention": f"""
            select {", ".join(f"countIf(has(days, first + {k}))" for k in spec["retention_days"])} from (
                select person, min(day) as first, groupUniqArray(day) as days
                from T where event = '{spec["retention_event"]}' group by person)""",
        "report": f"""
            select day, channel, count(), uniqExact(person), toInt64(sum(price * quantity))
            from T where event = '{spec["report_event"]}' group by day, channel order by day, channel""",
        "condition": f"""
            select count() from (
                select person from T
                where event = '{spec["report_event"]}' and category = '{spec["category"]}' and ts > {spec["since_ms"]}
                group by person having sum(price * quantity) >= {spec["spent"]})""",
        # A person's events in order, cut where nothing happened for longer than the gap; of each session what follows its first start.
        "path": f"""
            select i, from, into, count() from (
                select arraySort(e -> e.1, groupArray((ts, event))) as events,
                    arrayMap(e -> e.1, events) as times, arrayMap(e -> e.2, events) as names,
                    arraySplit((name, i) -> i > 1 and times[i] - times[i - 1] > {spec["gap_ms"]}, names, arrayEnumerate(names)) as sessions
                from T group by person)
            array join arrayMap(s -> arraySlice(s, indexOf(s, '{spec["path_start"]}')), arrayFilter(s -> has(s, '{spec["path_start"]}'), sessions)) as nodes
            array join arrayEnumerate(nodes) as i
            where i >= 2 and i <= {spec["path_nodes"]}
            group by i, nodes[i - 1] as from, nodes[i] as into order by i, from, into""",
        # Only sessions that begin with the start: less to do. For comparison of times alone, ours has no such question.
        "path_entry": f"""
            select i, from, into, count() from (
                select arraySort(e -> e.1, groupArray((ts, event))) as events,
                    arrayMap(e -> e.1, events) as times, arrayMap(e -> e.2, events) as names,
                    arraySplit((name, i) -> i > 1 and times[i] - times[i - 1] > {spec["gap_ms"]}, names, arrayEnumerate(names)) as sessions
                from T group by person)
            array join sessions as nodes
            array join arrayEnumerate(nodes) as i
            where nodes[1] = '{spec["path_start"]}' and i >= 2 and i <= {spec["path_nodes"]}
            group by i, nodes[i - 1] as from, nodes[i] as into order by i, from, into""",
    }


def duckdb_statements(spec):
    steps, window = spec["steps"], spec["window_ms"]
    # Per step, the latest start of a chain that has reached it: at an event of the step, that of the step before, if it is not too
    # long ago; else what it was.
    chain = f"select person, ts, event, case when event = '{steps[0]}' then ts end as start1 from T where event in ({texts(steps)})"
    for k in range(2, len(steps) + 1):
        last = f"last_value(start{k - 1} ignore nulls) over (partition by person order by ts rows unbounded preceding)"
        chain = f"""select *, case when event = '{steps[k - 1]}' and ts - {last} <= {window} then {last} end as start{k} from ({chain})"""
    depths = ", ".join(f"count(distinct person) filter (start{k} is not null)" for k in range(1, len(steps) + 1))
    sessions = f"""
        select person, ts, event, sum(cut) over (partition by person order by ts rows unbounded preceding) as session from (
            select person, ts, event,
                coalesce(ts - lag(ts) over (partition by person order by ts) > {spec["gap_ms"]}, false)::int as cut from T)"""
    return {
        "funnel": f"select {depths} from ({chain})",
        "retention": f"""
            with days as (select distinct person, day from T where event = '{spec["retention_event"]}'),
                firsts as (select person, min(day) as first from days group by person)
            select {", ".join(f"count(*) filter (day = first + {k})" for k in spec["retention_days"])}
            from days join firsts using (person)""",
        "report": f"""
            select day, channel, count(*), count(distinct person), sum(price * quantity)::bigint
            from T where event = '{spec["report_event"]}' group by day, channel order by day, channel""",
        "condition": f"""
            select count(*) from (
                select person from T
                where event = '{spec["report_event"]}' and category = '{spec["category"]}' and ts > {spec["since_ms"]}
                group by person having sum(price * quantity) >= {spec["spent"]})""",
        "path": f"""
            with started as (
                select *, row_number() over s as i, lag(event) over s as before
                from (select * from (
                    select *, min(case when event = '{spec["path_start"]}' then ts end) over (partition by person, session) as begin
                    from ({sessions})) where ts >= begin)
                window s as (partition by person, session order by ts))
            select i, before, event, count(*) from started where i between 2 and {spec["path_nodes"]}
            group by all order by all""",
    }


def measure(ask, runs=RUNS):
    seconds, answer = [], None
    while len(seconds) < runs and (len(seconds) < 2 or sum(seconds) < PATIENCE_S):
        start = time.perf_counter()
        answer = ask()
        seconds.append(round(time.perf_counter() - start, 5))
    return answer, seconds


def say(question, layout, answer, seconds):
    print(json.dumps({"question": question, "layout": layout, "answer": answer, "seconds": seconds}), flush=True)


def clickhouse(stream, work, spec):
    from chdb import session

    db = session.Session(work)

    def run(sql):
        lines = str(db.query(sql, "TSV")).splitlines()
        return [[int(cell) if cell.lstrip("-").isdigit() else cell for cell in line.split("\t")] for line in lines]

    layouts = {"by_person": "person, ts", "by_event": "event, person, ts"}
    if not os.path.exists(os.path.join(work, "loaded")):
        run("create database if not exists segue")
        for layout, order in layouts.items():
            run(f"drop table if exists segue.{layout}")
            run(f"""
                create table segue.{layout} (
                    person UInt32, ts Int64 codec(Delta, LZ4), day UInt16, event LowCardinality(String),
                    platform LowCardinality(String), channel LowCardinality(String), country LowCardinality(String),
                    category LowCardinality(String), campaign LowCardinality(String), os_version LowCardinality(String),
                    price Float64, quantity Int32) engine = MergeTree order by ({order})""")
            run(f"""
                insert into segue.{layout} select person, ts, intDiv(ts - {spec["start_ms"]}, 86400000), event, platform, channel, country,
                    category, campaign, os_version, price, quantity from file('{stream}/*.parquet', Parquet)""")
            run(f"optimize table segue.{layout} final")
        open(os.path.join(work, "loaded"), "w").close()
    for question, sql in clickhouse_statements(spec).items():
        if question in spec["questions"]:
            for layout in layouts:
                say(question, layout, *measure(lambda: run(re.sub(r"\bfrom T\b", f"from segue.{layout}", sql))))


def duckdb(stream, work, spec):
    import duckdb

    path = os.path.join(work, "events.duckdb")
    loaded = os.path.join(work, "loaded")
    if not os.path.exists(loaded) and os.path.exists(path):
        os.remove(path)
    db = duckdb.connect(path)
    # It would be printed between the answers.
    db.execute("set enable_progress_bar = false")
    db.execute(f"set temp_directory = '{work}/spill'")
    if not os.path.exists(loaded):
        db.execute(f"""
            create table T as select * exclude (event), event::varchar as event, ((ts - {spec["start_ms"]}) // 86400000)::usmallint as day
            from read_parquet('{stream}/*.parquet') order by event, person, ts""")
        db.execute("checkpoint")
        open(loaded, "w").close()
    for question, sql in duckdb_statements(spec).items():
        if question in spec["questions"]:
            say(question, "by_event", *measure(lambda: [list(row) for row in db.execute(sql).fetchall()]))


def main():
    stream, work, which, spec = sys.argv[1:5]
    os.makedirs(work, exist_ok=True)
    {"clickhouse": clickhouse, "duckdb": duckdb}[which](stream, work, json.loads(spec))


main()
