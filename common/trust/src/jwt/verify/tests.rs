use atoll_model::ZoneUid;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::jwt::{Issuer, SigningKey};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn global() -> Issuer {
    Issuer::Global(Uuid::from_u128(1))
}

fn zone(id: u128) -> Issuer {
    Issuer::Zone(ZoneUid(Uuid::from_u128(id)))
}

fn user() -> UserClaims {
    UserClaims { name: "ann".to_owned(), groups: vec!["ops".to_owned()] }
}

fn dataplane() -> DataplaneClaims {
    DataplaneClaims { mesh: "default".to_owned(), workload: "api".to_owned(), ..DataplaneClaims::default() }
}

struct Plane {
    key: SigningKey,
    table: KeyTable,
}

fn plane(issuer: Issuer) -> Plane {
    let key = SigningKey::generate(issuer).unwrap();
    let table = KeyTable::new([key.public().clone()]);
    Plane { key, table }
}

fn ann(plane: &Plane) -> crate::jwt::Issued {
    plane.key.issue_user(&user(), TimeDelta::hours(1), now(), &mut StdRng::seed_from_u64(1)).unwrap()
}

/// A payload as an attacker or another version would write it, signed with the right key.
fn signed(plane: &Plane, payload: &Value) -> Result<Verified<UserClaims>, TokenFault> {
    let token = plane.key.sign(payload).unwrap();
    plane.table.verify_user(token.expose(), now())
}

fn payload(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Value {
    let at = now().timestamp();
    let mut payload = json!({
        "iss": global().to_string(), "aud": "atoll:user", "exp": at + 60, "nbf": at, "iat": at, "jti": "1", "Name": "ann"
    });
    edit(payload.as_object_mut().unwrap());
    payload
}

#[test]
fn a_token_says_who_it_is_for_until_it_ends() {
    let plane = plane(global());
    let token = ann(&plane);
    let expected = Verified { claims: user(), id: token.id.clone(), issuer: global(), expires: now() + TimeDelta::hours(1) };
    assert_eq!(plane.table.verify_user(token.text.expose(), now()), Ok(expected.clone()));
    let at = |at: Timestamp| plane.table.verify_user(token.text.expose(), at).map(|_| ());
    assert_eq!(at(expected.expires + LEEWAY), Ok(()));
    assert_eq!(at(expected.expires + LEEWAY + TimeDelta::seconds(1)), Err(TokenFault::Expired));
    assert_eq!(at(now() - LEEWAY), Ok(()));
    assert_eq!(at(now() - TimeDelta::minutes(2)), Err(TokenFault::NotYet));
    let revoked = plane.table.clone().with_revoked(Arc::new([(token.id.clone(), expected.expires)].into()));
    assert_eq!(revoked.verify_user(token.text.expose(), now()), Err(TokenFault::Revoked));
    let identified = Identified { id: token.id, expires: expected.expires };
    assert_eq!(revoked.identify(token.text.expose()), Ok(identified), "to be revoked, a token need not hold");
}

#[test]
fn kumas_claim_names_are_on_the_wire() {
    let plane = plane(global());
    let token = plane.key.issue_dataplane(&dataplane(), TimeDelta::days(30), now(), &mut StdRng::seed_from_u64(1)).unwrap();
    let part = token.text.expose().split('.').nth(1).unwrap().to_owned();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["Mesh", "Workload", "aud", "exp", "iat", "iss", "jti", "nbf"]);
    assert_eq!(plane.table.verify_dataplane(token.text.expose(), now()).unwrap().claims, dataplane());
}

#[test]
fn a_token_is_nothing_to_another_audience() {
    let plane = plane(global());
    assert_eq!(plane.table.verify_dataplane(ann(&plane).text.expose(), now()), Err(TokenFault::Audience));
}

#[test]
fn zones_believe_global_and_themselves_only() {
    let (global, azure, gcp) = (plane(global()), plane(zone(2)), plane(zone(3)));
    let handed = serde_json::to_string(global.key.public()).unwrap();
    let table = KeyTable::new([serde_json::from_str(&handed).unwrap(), azure.key.public().clone()]);
    for (plane, expected) in [(&global, Ok(())), (&azure, Ok(())), (&gcp, Err(TokenFault::UnknownKey))] {
        assert_eq!(table.verify_user(ann(plane).text.expose(), now()).map(|_| ()), expected);
    }
    // A zone that signs in global's name with its own key.
    let forged = azure.key.sign(&payload(|_| ())).unwrap();
    assert_eq!(table.verify_user(forged.expose(), now()), Err(TokenFault::Issuer));
}

#[test]
fn a_key_comes_back_from_its_pem_and_its_public_half_from_json() {
    let plane = plane(global());
    let again = SigningKey::from_pem(plane.key.to_pem().expose(), global()).unwrap();
    assert_eq!(again.public(), plane.key.public());
    let mut json = serde_json::to_value(plane.key.public()).unwrap();
    json["alg"] = json!("none");
    assert!(serde_json::from_value::<PublicKey>(json).is_err());
}

#[test]
fn claims_that_lie_are_refused_though_the_signature_is_right() {
    let plane = plane(global());
    let at = now().timestamp();
    assert_eq!(signed(&plane, &payload(|_| ())).map(|_| ()), Ok(()));
    let cases: [(&str, Value, TokenFault); 8] = [
        ("iss", json!(zone(2).to_string()), TokenFault::Issuer),
        ("aud", json!("atoll:dataplane"), TokenFault::Audience),
        ("aud", json!(["atoll:user"]), TokenFault::Malformed),
        ("exp", json!(at - 31), TokenFault::Expired),
        ("exp", json!("soon"), TokenFault::Malformed),
        ("exp", json!(i64::MAX), TokenFault::Malformed),
        ("nbf", json!(at + 31), TokenFault::NotYet),
        ("Name", json!(1), TokenFault::Malformed),
    ];
    for (claim, value, expected) in cases {
        let forged = payload(|claims| _ = claims.insert(claim.to_owned(), value.clone()));
        assert_eq!(signed(&plane, &forged), Err(expected), "{claim} = {value}");
    }
    for claim in ["iss", "aud", "exp", "nbf", "jti", "Name"] {
        let forged = payload(|claims| _ = claims.remove(claim));
        assert_eq!(signed(&plane, &forged), Err(TokenFault::Malformed), "without {claim}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let plane = plane(global());
    let token = ann(&plane).text;
    let (_, rest) = token.expose().split_once('.').unwrap();
    let kid = plane.key.public().kid();
    for (header, expected) in [
        (json!({"alg": "none", "typ": "JWT", "kid": kid}), TokenFault::Malformed),
        (json!({"alg": "HS256", "typ": "JWT", "kid": kid}), TokenFault::Malformed),
        (json!({"alg": "es256", "typ": "JWT", "kid": kid}), TokenFault::Malformed),
        (json!({"alg": "ES256", "typ": "JWT"}), TokenFault::Malformed),
        (json!({"alg": "ES256", "typ": "JWT", "kid": "../key"}), TokenFault::UnknownKey),
        (json!({"alg": "ES256", "typ": "JWT", "kid": kid, "jku": "https://evil.example"}), TokenFault::Malformed),
        (json!({"alg": "ES256", "typ": "JWT", "kid": kid, "crit": ["exp"]}), TokenFault::Malformed),
        // The right header, written otherwise (see the space below): its signature is wrong.
        (json!({"alg": "ES256", "typ": "JWT", "kid": kid}), TokenFault::Signature),
    ] {
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string().replace("\"alg\"", " \"alg\"")));
        assert_eq!(plane.table.verify_user(&forged, now()), Err(expected), "{header}");
    }
}

#[test]
fn issuing_wants_a_name_and_an_end() {
    use crate::jwt::{DATAPLANE_LIFE_MAX, IssueError};
    let (plane, mut rng) = (plane(zone(2)), StdRng::seed_from_u64(1));
    let issue = |claims: &UserClaims, life, rng: &mut StdRng| plane.key.issue_user(claims, life, now(), rng).map(|_| ());
    assert_eq!(issue(&user(), TimeDelta::zero(), &mut rng), Err(IssueError::NoValidity));
    assert_eq!(issue(&user(), TimeDelta::MAX, &mut rng), Err(IssueError::NoValidity));
    assert_eq!(issue(&UserClaims::default(), TimeDelta::hours(1), &mut rng), Err(IssueError::Empty("name")));
    let issue =
        |claims: &DataplaneClaims, life, rng: &mut StdRng| plane.key.issue_dataplane(claims, life, now(), rng).map(|_| ());
    assert_eq!(issue(&dataplane(), DATAPLANE_LIFE_MAX, &mut rng), Ok(()));
    assert_eq!(issue(&dataplane(), DATAPLANE_LIFE_MAX + TimeDelta::seconds(1), &mut rng), Err(IssueError::TooLong));
    assert_eq!(issue(&DataplaneClaims::default(), TimeDelta::hours(1), &mut rng), Err(IssueError::Empty("mesh")));
}

proptest! {
    #[test]
    fn no_changed_token_is_believed(at in 0usize..400, byte in 0x20u8..0x7f) {
        let plane = plane(global());
        let mut bytes = ann(&plane).text.expose().as_bytes().to_vec();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(plane.table.verify_user(&String::from_utf8(bytes).unwrap(), now()).is_err());
    }

    #[test]
    fn garbage_is_refused(text in ".{0,200}") {
        prop_assert!(plane(global()).table.verify_user(&text, now()).is_err());
    }
}
