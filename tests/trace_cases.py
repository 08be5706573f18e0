"""Small recordings of links in each format, made of seconds and rates, as their recorders write."""

import json
from collections.abc import Callable, Sequence

#: Mbit/s down and up of five seconds.
DOWN = (1.5, 0.25, 0.0, 4.0, 2.0)
UP = (0.5, 0.25, 0.5, 1.0, 0.25)
Rates = Sequence[float]


def _pairs(down: Rates, up: Rates) -> str:
    return "".join(f"{second} {rate}\n" for second, rate in enumerate([0.0, *down]))


def _milliseconds(down: Rates, up: Rates) -> str:
    return "".join(f"{1000 * k} {1000 * rate}\n" for k, rate in enumerate([0.0, *down]))


def _commas(down: Rates, up: Rates) -> str:
    return _pairs(down, up).replace(" ", ",")


def _ns3(down: Rates, up: Rates) -> str:
    rows = (f"{k}\t{1000 * rate}\n" for k, rate in enumerate([0.0, *down]))
    return "#Time(s) Throughput(Kbps)\n" + "".join(rows)


def _mahimahi(down: Rates, up: Rates) -> str:
    """Spreads the packets of a second evenly; the last stands at its end."""
    counts = [round(rate * 1e6 / 12_000) for rate in down]
    return "".join(
        f"{round(1000 * (second + k / count))}\n"
        for second, count in enumerate(counts)
        for k in range(1, count + 1)
    )


def _bytes(date: float, unit: float) -> Callable[[Rates, Rates], str]:
    def rows(down: Rates, up: Rates) -> str:
        return "".join(
            f"{round((date + k) * unit)} {1000 * k + 1005} 59.85 10.78 {round(rate * 125e3)} 1000\n"
            for k, rate in enumerate(down)
        )

    return rows


def _g_nettrack(down: Rates, up: Rates) -> str:
    head = "Timestamp,Operatorname,DL_bitrate,UL_bitrate,State,PINGAVG,PINGLOSS\n"
    pings = ("-,-", "60.0,0.0", "-,-", "80.0,50.0", "-,-")
    return head + "".join(
        f"2019.12.16_13.40.{k:02d},B,{1000 * fall:g},{1000 * rise:g},D,{pings[k % 5]}\n"
        for k, (fall, rise) in enumerate(zip(down, up, strict=True))
    )


def _lumos5g(down: Rates, up: Rates) -> str:
    head = "run_num,seq_num,latitude,nrStatus,Throughput,mobility_mode\n"
    return head + "".join(
        f"{run},{k + 1},44.97,CONNECTED,{rate / run},walking\n"
        for run in (1, 2)
        for k, rate in enumerate(down)
    )


def _puffer(down: Rates, up: Rates) -> str:
    head = "time (ns GMT),session_id,index,size,cwnd,min_rtt,rtt,delivery_rate\n"
    return head + "".join(
        f"{1_650_000_000_000_000_000 + k * 10**9},{name},0,9000,20,40000,{rtt},{rate * 125e3}\n"
        for k, rate in enumerate(down)
        for name, rtt in (("aGVsbG8=", 50_000), ("d29ybGQ=", 90_000))
    )


def _iperf_json(down: Rates, up: Rates) -> str:
    def total(k: int, rate: float) -> dict[str, object]:
        return {"start": k, "end": k + 1, "bits_per_second": rate * 1e6, "omitted": False}

    intervals = [
        {
            "streams": [{"socket": 5, "rtt": 70_000}],
            "sum": total(k, rise),
            "sum_bidir_reverse": total(k, fall),
        }
        for k, (fall, rise) in enumerate(zip(down, up, strict=True))
    ]
    start = {"test_start": {"protocol": "TCP", "reverse": 0, "bidir": 1}}
    return json.dumps({"start": start, "intervals": intervals, "end": {}}, indent=1)


def _iperf(down: Rates, up: Rates) -> str:
    head = (
        "Connecting to host 10.0.0.1, port 5201\nReverse mode, remote host 10.0.0.1 is sending\n"
        "[  5] local 10.0.0.2 port 40000 connected to 10.0.0.1 port 5201\n"
        "[ ID] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams\n"
    )
    rows = "".join(
        f"[  5]   {k}.00-{k + 1}.00   sec  {rate / 8:.3f} MBytes  {1000 * rate:g} Kbits/sec  "
        f"0.012 ms  {k}/100 ({k}%)\n"
        for k, rate in enumerate(down)
    )
    end = (
        "- - - - - - - - - - - - - - - - - - - - - - - - -\n"
        f"[  5]   0.00-{len(down)}.00   sec  9.99 MBytes  99.9 Mbits/sec  0.1 ms  1/9 (1%)\n"
    )
    return head + rows + end


def _tc(down: Rates, up: Rates) -> str:
    rows = "".join(
        f"sudo tc qdisc change dev eth0 root netem rate {1000 * rate:g}kbit delay 30ms loss 2%\n"
        "sleep 1\n"
        for rate in down
    )
    return "#!/bin/sh\n# a link\n" + rows


def _csv(down: Rates, up: Rates) -> str:
    head = 'time_ms;"DL (kbit/s)";ul_mbps;rtt_ms;loss_percent\n'
    return head + "".join(
        f"{1000 * k};{1000 * fall:g};{str(rise).replace('.', ',')};{60 + 10 * k};{k}\n"
        for k, (fall, rise) in enumerate(zip(down, up, strict=True))
    )


def _availability(down: Rates, up: Rates) -> str:
    return "device,start,end,rate_mbps\n" + "".join(
        f"{device},{k},{k + 1},{rate}\n"
        for device in ("a", "b")
        for k, rate in enumerate(down)
        if rate and (device == "a" or k % 3 == 0)
    )


#: A format -> what its recorder writes of rates down and up in Mbit/s.
WRITERS: dict[str, Callable[[Rates, Rates], str]] = {
    "4g_csv": _g_nettrack,
    "5g_csv": _g_nettrack,
    "availability": _availability,
    "csv": _csv,
    "ghent": _bytes(1453121790.0, 1e3),
    "hsdpa_raw": _bytes(1284365009.0, 1.0),
    "iperf": _iperf,
    "iperf3_json": _iperf_json,
    "lumos5g": _lumos5g,
    "mahimahi": _mahimahi,
    "ns3": _ns3,
    "nyu_mets": _commas,
    "oboe": _milliseconds,
    "pensieve": _pairs,
    "puffer": _puffer,
    "tc": _tc,
}
#: Formats that have both directions.
BOTH_WAYS = {"4g_csv", "5g_csv", "csv", "iperf3_json"}
