"""Metrics of a cluster of real processes."""

from autoflow.metrics import metrics_of_cluster
from tests.cluster.conftest import Farm, daemon_of
from tests.test_docs import names, page
from tests.test_metrics import DASHBOARD, OF_CLUSTERS, names_in, rules
from tests.waiting import wait_for


def test_every_metric_of_a_cluster_that_is_documented_or_in_a_rule_or_the_dashboard_has_a_value(farm: Farm) -> None:
    with daemon_of(farm, workers=2) as daemon:
        # The orders of an earlier test may just be ending.
        wait_for(lambda: not any(worker.used for worker in daemon.cluster.workers()))
        samples = [sample for family in metrics_of_cluster(daemon.cluster) for sample in family.samples]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert found == {
        ("autoflow_cluster_up",): 1,
        ("autoflow_cluster_workers", "usable"): 2,
        ("autoflow_cluster_workers", "left_out"): 0,
        ("autoflow_cluster_slots",): 4,
        ("autoflow_cluster_slots_used",): 0,
    }
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    named = {name for query in (*targets, *rules()) for name in names_in(query) if name.startswith(OF_CLUSTERS)}
    documented = {name for name in names(page("operations/monitoring.md"), "metric") if name.startswith(OF_CLUSTERS)}
    assert named == documented == {sample.name for sample in samples}
