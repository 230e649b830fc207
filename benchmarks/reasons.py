"""Why goals are missed; each reason stands beside its figure in docs/benchmarks.md."""

REASONS = {
    "execution_vs_flow_run": (
        "With the start of its process. An attempt begins its log, reads the run's states and "
        "updates its page: 22 requests to Prefect more than a plain run's eleven, each of which "
        "takes as long as SQLite lets it. The ratio was 1.06 to 1.3 in five measurements."
    ),
    "prefect_requests of a checkpoint": (
        "While checkpoints are saved the run is read once a second, and its page is updated every "
        "five: the slower they come, the more of these for each."
    ),
    "step_vs_persisted_task": (
        "A plain Prefect task and one PUT by boto3 take 0.45 of the baseline by themselves. Our "
        "own part of a step is a tenth of it."
    ),
    "step_vs_persisted_task, 15 ms a request": (
        "As without the 15 ms: beside the one PUT, what is left is Prefect's task."
    ),
    "import_in_a_flow": (
        "Beside Prefect the package itself and boto3's session are loaded, in 0.1 s."
    ),
    "checkpoint_vs_raw_put 800 kB": (
        "To encode 800 kB, and to find what has changed in them, takes 2.5 ms beside a PUT of "
        "4.4 ms on loopback. A PUT over a network takes some 20."
    ),
    "load_time 10,000 entries": (
        "A second round, with up to 17 small GETs. On loopback they take this process's time, one "
        "after another. At 15 ms a request the goal is met: see the next line."
    ),
    "get_vs_prefect_read cold": (
        "The answer has ten states of 10 kB, Prefect's has none. With nothing in the cache there "
        "are a LIST and two rounds of GETs before it."
    ),
    "get_vs_prefect_read cold, 100 small checkpoints": (
        "A LIST and two rounds of GETs, which on loopback take this process's time one after "
        "another."
    ),
    "get_vs_prefect_read warm": (
        "Prefect's client, and the LIST that shows whether the log has grown, take 1.7 times "
        "Prefect's bare answer already. The rest is an answer of 100 kB."
    ),
    "create_vs_prefect": (
        "Two writes to Prefect and a PUT between them: the run is made in a state that no worker "
        "takes, then its log, then it is scheduled, so that no process begins without a log. The "
        "log can't be written first: the execution's id is the run's, which Prefect chooses."
    ),
    "list50_vs_prefect_filter": (
        "Prefect's client alone, which reads the same 50 runs, takes 1.2 times its bare answer."
    ),
    "seconds_per_read 1 clients": (
        "One read after another: see *get_vs_prefect_read warm*. With more clients the goal is met."
    ),
    "read_p99 1 clients": (
        "Prefect's server does other work meanwhile: its own bare reads spread as the line says."
    ),
}
