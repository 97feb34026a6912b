"""Each field of a launch request, right and wrong."""

import pytest
from contract.lambda_emulator import KEY, PUBLIC_KEY, a_launch

from broker.sandbox.emulators.lambda_catalogue import images
from broker.sandbox.emulators.lambda_errors import ApiError

ARM_IMAGE = next(i["id"] for i in images() if i["architecture"] == "arm64" and i["region"]["name"] == "us-east-1")
GOOD_IMAGE = next(i["id"] for i in images() if i["architecture"] == "x86_64" and i["region"]["name"] == "us-east-1")


def tags(**changes):
    return [{"key": "k1", "value": "v"} | changes]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "x" * 64},
        {"hostname": "0"},
        {"hostname": "a" * 63},
        {"user_data": "x" * 1024 * 1024},
        {"tags": []},
        {"tags": tags(key="a:b-1", value="v" * 128)},
        {"tags": tags(key="a" * 55)},
        {"image": {"family": "lambda-stack-24-04"}},
        {"image": {"id": GOOD_IMAGE}},
        {"image": {"id": ARM_IMAGE}, "instance_type_name": "gpu_1x_gh200"},
        {"instance_type_name": "cpu_4x_general", "region_name": "us-west-1"},
        {"file_system_names": [], "file_system_mounts": [], "firewall_rulesets": []},
    ],
)
def test_what_the_contract_allows_is_launched(cloud, changes):
    body = a_launch(**changes)
    shown = cloud.instance(KEY, cloud.launch(KEY, body).id)
    for field in ("name", "hostname", "tags"):
        if field in changes:
            assert shown[field] == changes[field]
    assert shown["instance_type"]["name"] == body["instance_type_name"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantity": 1}, "quantity"),
        ({"region_name": "us-nowhere-1"}, "Region us-nowhere-1 does not exist"),
        ({"region_name": 7}, "region_name"),
        ({"instance_type_name": "gpu_9x"}, "Instance type gpu_9x does not exist"),
        ({"instance_type_name": None}, "instance_type_name"),
        ({"ssh_key_names": []}, "ssh_key_names"),
        ({"ssh_key_names": ["mine", "mine"]}, "ssh_key_names"),
        ({"ssh_key_names": "mine"}, "ssh_key_names"),
        ({"ssh_key_names": [7]}, "ssh_key_names"),
        ({"ssh_key_names": ["other"]}, "SSH key other does not exist"),
        ({"name": "x" * 65}, "name"),
        ({"name": None}, "name"),
        ({"hostname": ""}, "hostname"),
        ({"hostname": "-a"}, "hostname"),
        ({"hostname": "A"}, "hostname"),
        ({"hostname": "a.b"}, "hostname"),
        ({"hostname": "a" * 64}, "hostname"),
        ({"hostname": "a\n"}, "hostname"),
        ({"user_data": "é" * 1024 * 512 + "x"}, "user_data"),
        ({"user_data": ["x"]}, "user_data"),
        ({"tags": {}}, "tags"),
        ({"tags": ["k"]}, "tags"),
        ({"tags": [{"key": "k1"}]}, "tags"),
        ({"tags": tags(more="x")}, "tags"),
        ({"tags": tags(key="k")}, "tags"),
        ({"tags": tags(key="Kk")}, "tags"),
        ({"tags": tags(key="a" * 56)}, "tags"),
        ({"tags": tags(value="v" * 129)}, "tags"),
        ({"tags": tags(value=1)}, "tags"),
        ({"image": "lambda-stack-24-04"}, "image"),
        ({"image": {}}, "image"),
        ({"image": {"id": GOOD_IMAGE, "family": "lambda-stack-24-04"}}, "image"),
        ({"image": {"family": "no-such"}}, "Image no-such does not exist"),
        ({"image": {"id": []}}, "does not exist"),
        ({"image": {"id": ARM_IMAGE}}, "image: not for x86_64"),
        ({"image": {"id": GOOD_IMAGE}, "instance_type_name": "gpu_1x_gh200"}, "image: not for arm64"),
        ({"image": {"id": GOOD_IMAGE}, "region_name": "us-west-1"}, "in us-west-1"),
        ({"file_system_names": "x"}, "file_system_names"),
        ({"file_system_names": ["x"]}, "file_system_names x does not exist"),
        ({"file_system_mounts": [{"mount_point": "/data"}]}, "file_system_id"),
        ({"file_system_mounts": [{"mount_point": "/data", "file_system_id": "f1"}]}, "f1 does not exist"),
        ({"firewall_rulesets": [{"id": "r1"}]}, "r1 does not exist"),
        ({"instance_type_name": "gpu_8x_h100_sxm5"}, "Not enough capacity"),
    ],
)
def test_what_the_contract_does_not_allow_is_named_and_buys_nothing(cloud, changes, said):
    with pytest.raises(ApiError) as caught:
        cloud.launch(KEY, a_launch(**changes))
    assert said in str(caught.value)
    assert caught.value.status in {400, 404}
    assert cloud.bill() == []


@pytest.mark.parametrize("missing", ["region_name", "instance_type_name", "ssh_key_names"])
def test_what_is_required_is_required(cloud, missing):
    body = a_launch()
    del body[missing]
    with pytest.raises(ApiError) as caught:
        cloud.launch(KEY, body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "x" * 65, "public_key": PUBLIC_KEY},
        {"name": 7, "public_key": PUBLIC_KEY},
        {"name": "k", "public_key": None},
        {"name": "k", "public_key": "ssh-ed25519"},
        {"name": "k", "public_key": "hello world"},
        {"name": "k", "public_key": "ssh-ed25519 " + "A" * 4096},
        {"name": "k", "public_key": PUBLIC_KEY, "comment": "x"},
    ],
)
def test_a_key_that_is_none_is_refused(cloud, body):
    with pytest.raises(ApiError) as caught:
        cloud.add_key(KEY, body)
    assert (caught.value.status, len(cloud.keys(KEY))) == (400, 1)


def test_a_forgotten_key_launches_nothing(cloud):
    (row,) = cloud.keys(KEY)
    cloud.delete_key(KEY, row["id"])
    with pytest.raises(ApiError, match="SSH key mine does not exist"):
        cloud.launch(KEY, a_launch())
