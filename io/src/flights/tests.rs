use super::*;

fn row(offset: u64, kind: &str, leg: Option<&str>, error: Option<&str>) -> LedgerRow {
    LedgerRow {
        generation: 1,
        partition: 0,
        offset,
        posting: 0,
        account_id: 1,
        user_id: "u".into(),
        currency_code: "USDT".into(),
        transaction_id: "t".into(),
        kind: kind.into(),
        amount: "1.5".into(),
        available_before: "0".into(),
        available_after: "0".into(),
        frozen_before: "0".into(),
        frozen_after: "0".into(),
        version: 0,
        error_code: error.map(Into::into),
        created_at_ms: 0,
        remembered_at_ms: None,
        leg: leg.map(Into::into),
    }
}

#[test]
fn legs_are_followed_in_any_order() {
    let debit = || row(7, "TRANSFER", None, None);
    let credit = |error| row(9, "CREDIT", Some("1/0/7/0/CREDIT"), error);
    let refund = |error| row(10, "REFUND", Some("1/0/7/0/REFUND"), error);
    let lost = Some("ACCOUNT_NOT_FOUND");
    let mut cheap = debit();
    cheap.amount = "1".into();
    let failed = row(7, "TRANSFER", None, Some("INSUFFICIENT_AVAILABLE"));
    // Entries, what is in flight, how much is wrong.
    let table: Vec<(Vec<LedgerRow>, &str, usize)> = vec![
        (vec![], "0", 0),
        (vec![failed], "0", 0),
        (vec![debit()], "1 (1 of 1.5 USDT)", 0),
        (vec![debit(), credit(None)], "0", 0),
        (vec![debit(), credit(lost)], "1 (1 of 1.5 USDT)", 0),
        (vec![debit(), credit(lost), refund(None)], "0", 0),
        (vec![credit(None)], "0", 1),
        (vec![debit(), refund(None)], "0", 1),
        (vec![debit(), credit(None), credit(None)], "0", 1),
        (vec![debit(), credit(None), refund(None)], "0", 1),
        (vec![cheap, credit(None)], "0", 1),
        (vec![row(9, "CREDIT", None, None)], "0", 1),
        (
            vec![row(9, "DEPOSIT", Some("1/0/7/0/CREDIT"), None)],
            "0",
            1,
        ),
        (vec![row(9, "CREDIT", Some("1/0/7/CREDIT"), None)], "0", 1),
    ];
    for (rows, in_flight, wrong) in table {
        for turn in 0..rows.len().max(1) {
            let mut rows = rows.clone();
            rows.rotate_left(turn);
            let mut flights = Flights::default();
            let told: Vec<String> = rows.iter().filter_map(|row| flights.entry(row)).collect();
            let (found, more) = flights.finish(true);
            assert_eq!(found.to_string(), in_flight, "{rows:?}");
            assert_eq!(told.len() + more.len(), wrong, "{rows:?} {told:?} {more:?}");
        }
    }
}

#[test]
fn a_second_landing_is_seen_where_the_beginning_is_lost() {
    let mut flights = Flights::default();
    let credit = |offset| row(offset, "CREDIT", Some("1/0/7/0/CREDIT"), None);
    assert_eq!(flights.entry(&row(7, "TRANSFER", None, None)), None);
    assert_eq!(flights.entry(&credit(9)), None);
    let told = flights.entry(&credit(12)).unwrap();
    assert!(told.contains("had landed before"), "{told}");
    assert_eq!(flights.finish(false), (InFlight::default(), Vec::new()));
}

fn payload(name: &str, user: &str, account: u64, amount: &str) -> String {
    let kind = name.rsplit('/').next().unwrap();
    let from = if kind == "CREDIT" { 1 } else { 2 };
    format!(
        r#"{{"transactionId":"t","userId":"{user}","accountId":{account},"type":"{kind}","currencyCode":"USDT","amount":"{amount}","leg":"{name}","fromUserId":"x","fromAccountId":{from}}}"#
    )
}

#[test]
fn the_outbox_has_what_is_in_flight_and_nothing_else() {
    let (credit, refund) = ("1/0/7/0/CREDIT", "1/0/7/0/REFUND");
    let debit = || row(7, "TRANSFER", None, None);
    let landed = |error| row(9, "CREDIT", Some("1/0/7/0/CREDIT"), error);
    let back = || row(10, "REFUND", Some("1/0/7/0/REFUND"), None);
    let lost = Some("ACCOUNT_NOT_FOUND");
    let right = Some(payload(credit, "u-2", 2, "1.5"));
    let paid_back = Some(payload(refund, "u", 1, "1.5"));
    // Entries; the leg's name, key and payload; what is told.
    let table = [
        (vec![debit()], credit, "u-2", right.clone(), ""),
        (vec![debit(), landed(None)], credit, "u-2", None, ""),
        (vec![debit(), landed(lost)], credit, "u-2", None, ""),
        (
            vec![debit(), landed(lost)],
            refund,
            "u",
            paid_back.clone(),
            "",
        ),
        (vec![debit(), landed(lost), back()], refund, "u", None, ""),
        (vec![], credit, "u-2", right.clone(), "nothing made"),
        (vec![debit()], refund, "u", paid_back, "nothing made"),
        (
            vec![debit(), landed(None)],
            refund,
            "u",
            None,
            "nothing made",
        ),
        (vec![debit()], "1/0/7/CREDIT", "u-2", None, "no leg's name"),
        (vec![debit()], credit, "u-2", None, "its payload is gone"),
        (vec![debit()], credit, "u-3", right, "not its key"),
        (
            vec![debit()],
            credit,
            "u-2",
            Some(payload(credit, "u-2", 2, "15")),
            "is of 15 USDT, its debit of 1.5 USDT",
        ),
        (
            vec![debit()],
            credit,
            "u",
            Some(payload(refund, "u", 1, "1.5")),
            "has the payload of 1/0/7/0/REFUND",
        ),
        (
            vec![debit(), landed(lost)],
            refund,
            "u-2",
            Some(payload(refund, "u-2", 2, "1.5")),
            "names account 2 as the debtor",
        ),
    ];
    for (rows, name, user, payload, tells) in table {
        let mut flights = Flights::default();
        for row in &rows {
            assert_eq!(flights.entry(row), None);
        }
        let leg = OutboxLeg {
            name,
            user: user.as_bytes(),
            transaction_id: b"t",
            payload: payload.as_deref(),
            is_applied: false,
        };
        let told = flights.outbox(&leg, true);
        assert_eq!(told.is_some(), !tells.is_empty(), "{rows:?} {told:?}");
        assert!(told.is_none_or(|told| told.contains(tells)), "{tells}");
    }
}

#[test]
fn a_leg_that_was_refused_is_told_apart() {
    for (is_applied, says) in [
        (false, "1 (1 of 1.5 USDT)"),
        (true, "1 (1 of 1.5 USDT), 1 of them refused"),
    ] {
        let mut flights = Flights::default();
        let lost = Some("ACCOUNT_NOT_FOUND");
        assert_eq!(flights.entry(&row(7, "TRANSFER", None, None)), None);
        let failed = row(9, "CREDIT", Some("1/0/7/0/CREDIT"), lost);
        assert_eq!(flights.entry(&failed), None);
        assert_eq!(flights.not_in_outbox().len(), 1);
        let payload = payload("1/0/7/0/REFUND", "u", 1, "1.5");
        let leg = OutboxLeg {
            name: "1/0/7/0/REFUND",
            user: b"u",
            transaction_id: b"t",
            payload: Some(&payload),
            is_applied,
        };
        assert_eq!(flights.outbox(&leg, true), None);
        assert_eq!(flights.not_in_outbox(), []);
        assert_eq!(flights.finish(true).0.to_string(), says);
    }
}
