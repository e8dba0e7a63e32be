//! What the initramfs's network left behind in the booted system: cards, addresses and routes, as the kernel
//! lists them there, and files below /run.

use anyhow::Result;

use crate::judges::evidence::Evidence;

/// Everything that is left, in words; nothing if all is gone.
///
/// # Errors
/// When the guest did not write it down.
pub fn of_a_network(evidence: &Evidence) -> Result<Vec<String>> {
    let mut remains = cards_up(&evidence.text("cards")?);
    remains.extend(addresses(&evidence.text("local-addresses")?));
    remains.extend(routes(&evidence.text("routes")?));
    remains.extend(files(&evidence.text("network-files")?));
    Ok(remains)
}

/// `NAME FLAGS` in hexadecimal, a line for each card.
fn cards_up(text: &str) -> Vec<String> {
    let up = |flags: &str| {
        u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & IFF_UP != 0)
    };
    let cards = text.lines().filter_map(|line| line.split_once(' '));
    cards
        .filter(|(name, flags)| *name != LOOPBACK && up(flags))
        .map(|(name, _)| format!("{name} is up"))
        .collect()
}

/// The leaves of /proc/net/fib_trie that are local addresses, and /proc/net/if_inet6.
fn addresses(text: &str) -> Vec<String> {
    let ipv4 = text.lines().filter_map(|line| line.split_once("|-- ")).map(|(_, address)| address);
    let ipv6 = text.lines().filter(|line| line.split_whitespace().count() == 6);
    let foreign = ipv6.filter(|line| !line.ends_with(LOOPBACK));
    ipv4.filter(|address| !address.starts_with("127."))
        .chain(foreign)
        .map(|left| format!("address {left}"))
        .collect()
}

/// /proc/net/route, whose first line names the columns, and /proc/net/ipv6_route.
fn routes(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with("Iface") && !line.ends_with(LOOPBACK));
    lines.map(|line| format!("route {line}")).collect()
}

fn files(text: &str) -> Vec<String> {
    let report = |path: &&str| !path.ends_with("/report.json");
    text.lines().filter(report).map(|path| format!("file {path}")).collect()
}

const LOOPBACK: &str = "lo";
/// linux/if.h
const IFF_UP: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    // Linux 6.12, in a booted system whose initramfs had a network and took it down.
    const GONE: (&str, &str, &str) = (
        "enp0s3 0x1002\nlo 0x9\n",
        "              |-- 127.0.0.1\n                 /32 host LOCAL\n00000000000000000000000000000001 01 80 10 80       lo\n",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 \
         00000000 00000002 00000000 80200001       lo\n",
    );

    #[test]
    fn the_loopback_is_no_remainder() {
        let (cards, local, all_routes) = GONE;
        assert_eq!([cards_up(cards), addresses(local), routes(all_routes)].concat(), Vec::<String>::new());
        assert!(files("/run/cvm-unlock/report.json\n").is_empty());
    }

    #[test]
    fn each_remainder_is_named() {
        assert_eq!(cards_up("enp0s3 0x1003\n"), ["enp0s3 is up"]);
        assert_eq!(addresses("  |-- 10.0.2.15\n     /32 host LOCAL\n"), ["address 10.0.2.15"]);
        let link_local = "fe80000000000000505400fffe123456 02 40 20 80   enp0s3";
        assert_eq!(addresses(link_local), [format!("address {link_local}")]);
        let route = "enp0s3\t00000000\t0202000A\t0003\t0\t0\t1024\t00000000\t0\t0\t0";
        assert_eq!(routes(route), [format!("route {route}")]);
        assert_eq!(files("/run/cvm-unlock/resolv.conf"), ["file /run/cvm-unlock/resolv.conf"]);
    }
}
