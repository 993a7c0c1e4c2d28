"""The clusters of the models' servers."""

from collections.abc import Sequence

from wissel.envoy.fields import Fields, address, discovery, http_options, is_ip, many, seconds, typed
from wissel.envoy.plans import ClusterTLS, UpstreamCluster


def upstream_cluster(cluster: UpstreamCluster, filters: Sequence[Fields] = ()) -> Fields:
    """The cluster, with what an attempt passes on its way to a server."""
    secured = cluster.tls is not None
    # A secured server may choose HTTP/2, by ALPN.
    protocol: Fields = {"auto_config": {}} if secured else {"explicit_http_config": {"http_protocol_options": {}}}
    addresses = [address for address, _ in cluster.servers]
    fields: Fields = {
        "name": cluster.name,
        # One look-up at a time is followed only where there is one name.
        "type": discovery(addresses, many_addresses=secured and len(addresses) == 1),
        "connect_timeout": seconds(cluster.connect_timeout),
        "circuit_breakers": many(),
        "typed_extension_protocol_options": http_options(
            # uvicorn, and so vLLM, hangs up after 5 s without a request: who hangs up first loses no request.
            common_http_protocol_options={"idle_timeout": "60s" if secured else "4s"},
            **protocol,
            **({"http_filters": list(filters)} if filters else {}),
        ),
        "load_assignment": {"cluster_name": cluster.name, "endpoints": [{"lb_endpoints": _servers(cluster)}]},
    }
    if cluster.tls:
        fields["transport_socket"] = tls_socket(cluster.tls)
    if cluster.probing:
        # Envoy's default threshold of panic stays: with every server ill they are all tried, and a request that fails
        # there may be retried elsewhere, as one without a server may not.
        fields["health_checks"] = [
            {
                "timeout": seconds(cluster.probing.timeout),
                "interval": seconds(cluster.probing.interval),
                # A model that nobody asks for is not known to be well: its first caller should not find out.
                "no_traffic_interval": seconds(cluster.probing.interval),
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": cluster.probing.path},
            }
        ]
    return fields


def _servers(cluster: UpstreamCluster) -> list[Fields]:
    return [
        {
            "endpoint": {"address": address(each), "hostname": cluster.host_of(each)},
            **({"load_balancing_weight": weight} if len(cluster.servers) > 1 else {}),
        }
        for each, weight in cluster.servers
    ]


def tls_socket(tls: ClusterTLS) -> Fields:
    # Without a validation context Envoy believes any certificate, without a SAN any that the authority signed.
    named = is_ip(tls.sni)
    context: Fields = {} if named else {"sni": tls.sni}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": typed(
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            **context,
            common_tls_context={
                "validation_context": {
                    "trusted_ca": {"filename": tls.ca},
                    "match_typed_subject_alt_names": [
                        {"san_type": "IP_ADDRESS" if named else "DNS", "matcher": {"exact": tls.sni}}
                    ],
                }
            },
        ),
    }
