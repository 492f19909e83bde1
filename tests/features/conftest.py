import pytest
from rays import ray_cluster


@pytest.fixture(scope="package")
def two_nodes():
    """Return a cluster of two nodes for the tests of this room, which its start costs once."""
    ray = pytest.importorskip("ray")
    with ray_cluster(nodes=2) as found:
        yield found
        ray.shutdown()
