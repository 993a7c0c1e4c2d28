from wissel.core import names


def test_what_envoys_configuration_and_dashboards_name_stays_as_it_is():
    assert (names.PREFIX, names.NAMESPACE) == ("x-wissel-", "wissel")
    assert names.SERVICE == "envoy.service.ext_proc.v3.ExternalProcessor"
    assert names.CLUSTER_HEADER == "x-wissel-cluster"
    assert names.MODEL_HEADER == "x-wissel-model"
    assert names.ROUTE_HEADER == "x-wissel-route"
    assert names.VARIANT_HEADER == "x-wissel-variant"
    assert names.REQUEST_ID_HEADER == "x-wissel-request-id"


def test_every_header_that_wissel_sets_is_its_own():
    assert {value for name, value in vars(names).items() if name.endswith("_HEADER")} == names.OWNED
