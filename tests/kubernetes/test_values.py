"""values.yaml: read as it is written, refused where Kubernetes would refuse it, filled from what was measured."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsplit.capacity.profile import PartProfile, Profile, curve
from recsplit.errors import InputError
from recsplit.kubernetes.manifests import quantity, values_text
from recsplit.kubernetes.sizing import dns_name, first_values
from recsplit.kubernetes.values import Label, Overlay, Servers, Values, from_yaml, within
from recsplit.partition.partition_file import Partition, ShardLayout
from tests.configs.plans import shop
from tests.kubernetes.rendered import files_of, sharded, values_of


def text(values: Values) -> str:
    return values_text(sharded(), values, sizes_from="the test")


def changed(*path: str | int, to: Any) -> Values:
    """The sharded plan's values with one field changed."""

    def change(value: Any, path: tuple[str | int, ...]) -> Any:
        if not path:
            return to
        first, rest = path[0], path[1:]
        if isinstance(first, int):
            return tuple(change(item, rest) if number == first else item for number, item in enumerate(value))
        return dataclasses.replace(value, **{first: change(getattr(value, first), rest)})

    changed_values = change(values_of(sharded()), path)
    assert isinstance(changed_values, Values)
    return changed_values


def test_what_is_written_is_read_back() -> None:
    values = changed("prometheus", "monitor_labels", to=(Label("release", "kube-prometheus"),))
    assert from_yaml(text(values)) == values


def test_values_without_shards_are_read_back() -> None:
    values = values_of(shop())
    assert from_yaml(values_text(shop(), values, sizes_from="the test")) == values


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("name",), "Shop", "name is 'Shop'"),
        (("name",), "s" * 41, "at most 40"),
        (("image",), "", "the name of a container image"),
        (("user_id",), 0, "isn't root"),
        (("delivery", "claim"), None, "PersistentVolumeClaim"),
        (("delivery", "kind"), "objects", "url is None"),
        (("delivery", "path"), "../other", "inside the volume"),
        (("delivery", "url"), ":s3,secret_access_key=hunter2:bucket", "credential"),
        (("prometheus", "address"), "prometheus:9090", "expected a URL"),
        (("prometheus", "scrape_interval_s"), 60, "1 to 30"),
        (("prometheus", "pod_labels"), (Label("a b", "c"),), "a b=c is no label"),
        (("asking", "timeout_ms"), 0, "timeout_ms is 0: expected 1 or more"),
        (("asking", "hedge_ms"), -1, "hedge_ms is -1: expected 0 or more"),
        (("front", "p95_bound_ms"), 0.0, "p95_bound_ms is 0.0"),
        (("front", "bound_share"), 1.5, "bound_share is 1.5"),
        (("front", "cpu"), 0.0, "cpu is 0.0"),
        (("front", "memory_mib"), 256, "a memory_mib above it"),
        (("shards", 0, "max_qps"), -1.0, "max_qps is -1.0"),
        # At its maximum a server answers exactly max_qps: an autoscaler that aims there never acts.
        (("shards", 0, "max_qps_share"), 1.0, "at most 0.9"),
        (("shards", 1, "min_replicas"), 0, "min_replicas of 1 or more"),
        (("shards", 1, "startup_s"), 0, "startup_s is 0"),
        (("prod", "namespace"), "shop-dev", "the same namespace"),
        (("dev", "least_replicas"), 3, "most_replicas is 2"),
    ],
)
def test_what_kubernetes_would_refuse_is_refused(path: tuple[str | int, ...], value: object, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        from_yaml(text(changed(*path, to=value)))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("a: [", "is not YAML"),
        ("[]", "has schema None"),
        ("schema: 2", "has schema 2"),
        ("schema: 1", "expected the keys"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("[" * 100_000, "nested too deeply|is not YAML"),
    ],
)
def test_another_text_is_refused(broken: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_yaml(broken)


def test_a_misspelt_key_is_told() -> None:
    with pytest.raises(InputError, match="min_replica'"):
        from_yaml(text(values_of(sharded())).replace("min_replicas", "min_replica", 1))


COUNTS = st.integers(1, 50)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.none() | COUNTS)
def test_an_overlay_bounds_every_count(replicas: int, one: int, other: int, least: int, more: int | None) -> None:
    servers = Servers(replicas, min(one, other), max(one, other), 1, 512, 64, 60)
    overlay = Overlay("shop", least, None if more is None else least + more, "ScheduleAnyway")
    bounded_servers = within(servers, overlay)
    assert least <= bounded_servers.min_replicas <= bounded_servers.replicas <= bounded_servers.max_replicas
    assert overlay.most_replicas is None or bounded_servers.max_replicas <= overlay.most_replicas


@given(st.text(min_size=1, max_size=100))
def test_any_name_becomes_a_dns_label_that_is_stable(name: str) -> None:
    label = dns_name(name)
    assert len(label) <= 40 and label[0].isalpha() and label.replace("-", "").isalnum() and label.isascii() and label == label.lower()
    assert not label.endswith("-") and dns_name(label) == label


@pytest.mark.parametrize(("number", "expected"), [(2, "2"), (16.25, "16250m"), (0.0001, "1m"), (1e6, "1000000")])
def test_quantities_are_exact_to_the_thousandth(number: float, expected: str) -> None:
    assert quantity(number) == expected


def profile(**parts: float) -> Profile:
    """A profile in which a batch of any size takes each part so many ms; PSS 1 GB and a load of 20 s each."""
    flat = {name: curve((1, 100), ((ms,), (ms,))) for name, ms in parts.items()}
    costs: dict[str, Any] = {
        "role": "shard",
        "instances": 1,
        "threads": 2,
        "contended": None,
        "cores": 1.5,
        "pss_bytes": 10**9,
        "load_s": 20.0,
    }
    part_profiles = tuple(PartProfile(name=name, alone=one, client=one, **costs) for name, one in flat.items())
    whole = curve((1,), ((9.0,),))
    fields: dict[str, Any] = {field.name: None for field in dataclasses.fields(Profile)}
    fields |= {"model": "shop", "parts": part_profiles, "whole": whole, "cpu_ms": (1.0,), "server_pss_bytes": 5 * 10**8, "provenance": {}}
    return Profile(**fields)


def partition(*replicas: int) -> Partition:
    shards = tuple(ShardLayout((), "own", count, 1.0, 1000) for count in replicas)
    return Partition("shop", None, 90.0, "paper", 1.0, "bytes", shards)


def test_cores_are_those_that_a_busy_instance_takes() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000)
    assert first_values(sharded(), sizes).shards[0].cpu == 2
    assert first_values(sharded(), sizes, profile=profile(shop_embedding_1=5)).shards[0].cpu == 1.5


def test_memory_and_time_to_start_come_from_the_profile() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000)
    without, measured = first_values(sharded(), sizes), first_values(sharded(), sizes, profile=profile(shop_embedding_1=5))
    assert measured.shards[0].memory_mib == -(-15 * 10**8 * 5 // 4 // 2**20) + measured.shards[0].shared_memory_mib
    assert measured.shards[0].startup_s == without.shards[0].startup_s + 60


def test_tables_that_no_query_has_touched_are_counted() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000) | {"shop_embedding_1": 8 * 10**9}
    assert first_values(sharded(), sizes, profile=profile(shop_embedding_1=5)).shards[0].memory_mib > 8 * 10**9 / 2**20


def test_what_a_shard_sustains_is_measured_before_it_is_reckoned() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000)
    values = first_values(sharded(), sizes, profile=profile(shop_embedding_1=5), partition=partition(1, 2, 2), rows=32)
    assert [shard.max_qps for shard in values.shards] == [200, 45]


def test_where_nobody_knows_what_a_shard_sustains_nothing_scales_it() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000)
    assert [shard.max_qps for shard in first_values(sharded(), sizes).shards] == [None, None]


def test_a_profile_or_partition_of_another_build_is_refused() -> None:
    sizes = dict.fromkeys(files_of(sharded()), 1000)
    with pytest.raises(InputError, match="profile is of 'other'"):
        first_values(sharded(), sizes, profile=dataclasses.replace(profile(), model="other"))
    with pytest.raises(InputError, match="partition is of 'other'"):
        first_values(sharded(), sizes, partition=dataclasses.replace(partition(1, 2, 2), model="other"))
    with pytest.raises(InputError, match="has 2 shards, and the build has 3"):
        first_values(sharded(), sizes, partition=partition(1, 2))
