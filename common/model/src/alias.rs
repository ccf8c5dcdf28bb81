//! Kuma's hashed names for resources of other planes: `<name>-<16 characters>`.
//!
//! The suffix is FNV-1a 64 over mesh, display name and zone without separators, in hexadecimal, each character mapped into an
//! alphabet without vowels (Kuma: `pkg/kds/hash/hash.go`).

const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// 253 less the dash and the 16 characters of the hash.
const NAME_PART_MAX: usize = 236;

/// The alias of a resource; `zone` is empty for what global owns.
pub fn alias(mesh: &str, name: &str, zone: &str) -> String {
    let hash = fnv1a64(mesh.bytes().chain(name.bytes()).chain(zone.bytes()));
    let suffix: String = format!("{hash:016x}").bytes().map(|b| char::from(ALPHABET[usize::from(b) % ALPHABET.len()])).collect();
    let cut = name.len().min(NAME_PART_MAX);
    format!("{}-{suffix}", name.get(..cut).unwrap_or(name))
}

fn fnv1a64(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::alias;

    #[test]
    fn kumas_vectors() {
        for (mesh, name, zone, expected) in [
            ("default", "redis-zone-1", "zone-1", "redis-zone-1-2v6wfvvcvbc9f55d"),
            ("default", "redis-zone-2", "zone-2", "redis-zone-2-ff29vc4685c6f594"),
            ("default", "backend", "zone-1", "backend-d8466458x7574b7b"),
            ("default", "backend", "", "backend-524cwbwv5vzz94b6"),
            ("default", "mesh-timeout-all-default", "", "mesh-timeout-all-default-bv8z44b7bzb99xc7"),
            ("", "synced-universal-mesh-service", "", "synced-universal-mesh-service-46484vczc724vc29"),
        ] {
            assert_eq!(alias(mesh, name, zone), expected);
        }
    }
}
