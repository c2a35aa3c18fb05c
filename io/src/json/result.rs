//! A result as JSON: by serde for people's files, and by hand for the topic.

use kilter_engine::{
    Amount, Code,
    amount::TEXT_BYTES,
    result::{Counterpart, ResultRecord, Status},
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A result as JSON.
pub struct ResultJson<'a>(pub &'a ResultRecord);

impl Serialize for ResultJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let result = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("transactionId", result.transaction_id.as_str())?;
        if let Some(account_id) = result.account_id {
            map.serialize_entry("accountId", &account_id)?;
        }
        map.serialize_entry("userId", result.user_id.as_str())?;
        if let Some(currency) = &result.currency {
            map.serialize_entry("currencyCode", currency)?;
        }
        if let Some(kind) = &result.kind {
            map.serialize_entry("type", kind)?;
        }
        if let Some(amount) = &result.amount {
            map.serialize_entry("amount", amount)?;
        }
        map.serialize_entry("success", &(result.status == Status::Success))?;
        if let Some(around) = &result.around {
            map.serialize_entry("availableBefore", &around.before.available)?;
            map.serialize_entry("availableAfter", &around.after.available)?;
            map.serialize_entry("frozenBefore", &around.before.frozen)?;
            map.serialize_entry("frozenAfter", &around.after.frozen)?;
            map.serialize_entry("version", &around.after.version)?;
        }
        if let Some(code) = result.status.code() {
            map.serialize_entry("errorCode", code.as_str())?;
            map.serialize_entry("errorMessage", &error_message(result, code))?;
        }
        map.serialize_entry("timestamp", &result.timestamp_ms)?;
        if result.remembered_ms > result.timestamp_ms {
            map.serialize_entry("rememberedAt", &result.remembered_ms)?;
        }
        map.serialize_entry("generation", &result.position.generation)?;
        map.serialize_entry("partition", &result.position.partition)?;
        map.serialize_entry("offset", &result.position.offset)?;
        map.serialize_entry("posting", &result.position.posting)?;
        map.serialize_entry("term", &result.term)?;
        if let Some(other) = result.counterpart.as_deref() {
            let (user, account) = names(other);
            if let Some(leg) = &other.leg {
                map.serialize_entry("leg", leg.kind.as_str())?;
                map.serialize_entry("legName", leg)?;
            }
            if let Some(leg) = result.credit_leg() {
                map.serialize_entry("creditLeg", &leg)?;
            }
            map.serialize_entry(user, other.user_id.as_str())?;
            map.serialize_entry(account, &other.account_id)?;
        }
        map.end()
    }
}

/// A result as [`ResultJson`] has it, without spaces, behind what is in `to`: the same bytes, made
/// without the generality, because there is one for each command.
pub(crate) fn write_result(result: &ResultRecord, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"transactionId\":");
    text(to, result.transaction_id.as_str());
    if let Some(account_id) = result.account_id {
        number(to, ",\"accountId\":", account_id.get());
    }
    to.extend_from_slice(b",\"userId\":");
    text(to, result.user_id.as_str());
    if let Some(currency) = &result.currency {
        to.extend_from_slice(b",\"currencyCode\":");
        text(to, currency.as_str());
    }
    if let Some(kind) = result.kind {
        to.extend_from_slice(b",\"type\":");
        text(to, kind.as_str());
    }
    if let Some(amount) = result.amount {
        decimal(to, ",\"amount\":\"", amount);
    }
    to.extend_from_slice(match result.status {
        Status::Success => b",\"success\":true",
        _ => b",\"success\":false",
    });
    if let Some(around) = &result.around {
        decimal(to, ",\"availableBefore\":\"", around.before.available);
        decimal(to, ",\"availableAfter\":\"", around.after.available);
        decimal(to, ",\"frozenBefore\":\"", around.before.frozen);
        decimal(to, ",\"frozenAfter\":\"", around.after.frozen);
        number(to, ",\"version\":", around.after.version);
    }
    if let Some(code) = result.status.code() {
        to.extend_from_slice(b",\"errorCode\":");
        text(to, code.as_str());
        to.extend_from_slice(b",\"errorMessage\":");
        text(to, &error_message(result, code));
    }
    time(to, ",\"timestamp\":", result.timestamp_ms);
    if result.remembered_ms > result.timestamp_ms {
        time(to, ",\"rememberedAt\":", result.remembered_ms);
    }
    let position = &result.position;
    number(to, ",\"generation\":", position.generation.get().into());
    number(to, ",\"partition\":", position.partition.get().into());
    number(to, ",\"offset\":", position.offset.get());
    number(to, ",\"posting\":", position.posting.get().into());
    number(to, ",\"term\":", result.term.get());
    if let Some(other) = result.counterpart.as_deref() {
        write_counterpart(result, other, to);
    }
    to.push(b'}');
}

#[cold]
fn write_counterpart(result: &ResultRecord, other: &Counterpart, to: &mut Vec<u8>) {
    if let Some(leg) = &other.leg {
        to.extend_from_slice(b",\"leg\":");
        text(to, leg.kind.as_str());
        to.extend_from_slice(b",\"legName\":");
        text(to, &leg.to_string());
    }
    if let Some(leg) = result.credit_leg() {
        to.extend_from_slice(b",\"creditLeg\":");
        text(to, &leg.to_string());
    }
    let (user, account) = names(other);
    to.extend_from_slice(format!(",\"{user}\":").as_bytes());
    text(to, other.user_id.as_str());
    number(to, &format!(",\"{account}\":"), other.account_id.get());
}

/// What the other side's user and account are called.
fn names(other: &Counterpart) -> (&'static str, &'static str) {
    match other.leg {
        None => ("toUserId", "toAccountId"),
        Some(_) => ("fromUserId", "fromAccountId"),
    }
}

/// Text between quotes; what has to be escaped is rare and left to whoever knows how.
fn text(to: &mut Vec<u8>, text: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(is_plain) {
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    } else {
        let written = serde_json::to_writer(to, text);
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

fn decimal(to: &mut Vec<u8>, name: &str, amount: Amount) {
    to.extend_from_slice(name.as_bytes());
    let mut buffer = [0; TEXT_BYTES];
    to.extend_from_slice(amount.write_to(&mut buffer).as_bytes());
    to.push(b'"');
}

fn time(to: &mut Vec<u8>, name: &str, ms: i64) {
    to.extend_from_slice(name.as_bytes());
    if ms < 0 {
        to.push(b'-');
    }
    digits(to, ms.unsigned_abs());
}

fn number(to: &mut Vec<u8>, name: &str, number: u64) {
    to.extend_from_slice(name.as_bytes());
    digits(to, number);
}

/// A number's decimal digits.
pub(crate) fn digits(to: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    to.extend_from_slice(&digits[at..]);
}

/// Why, in words. A refusal brings its own; the others follow from the numbers.
fn error_message(result: &ResultRecord, code: Code) -> String {
    if let Some(message) = &result.message {
        return message.to_string();
    }
    if let Some(failed) = &result.failed_posting {
        let (posting, kind) = (failed.posting, failed.kind.as_str());
        let (amount, currency) = (failed.amount, failed.currency);
        return format!("postings[{posting}]: {code}: {kind} {amount} {currency}");
    }
    let (Some(around), Some(amount)) = (&result.around, result.amount) else {
        return code.as_str().to_owned();
    };
    let before = &around.before;
    match code {
        Code::InsufficientAvailable => {
            format!("available {} is less than {amount}", before.available)
        }
        Code::InsufficientFrozen => format!("frozen {} is less than {amount}", before.frozen),
        Code::BalanceOverflow => format!(
            "available {} and frozen {} have no room for {amount}",
            before.available, before.frozen
        ),
        Code::Duplicate => "this transaction id was answered before".to_owned(),
        code => code.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_engine::{
        AccountId, CommandKind, Currency, Generation, MoveKind, Offset, Partition, Posting, Term,
        ledger::{BalanceState, Position},
        result::{Around, FailedPosting, InlineText},
    };

    #[test]
    fn a_result_is_the_same_bytes_either_way() {
        let amount = |units: i128| Amount::from_units(units).unwrap();
        let state = |available: i128, frozen: i128, version| BalanceState {
            available: amount(available),
            frozen: amount(frozen),
            version,
        };
        let mut result = ResultRecord {
            position: Position {
                generation: Generation::new(1),
                partition: Partition::new(u32::MAX),
                offset: Offset::new(u64::MAX),
                posting: Posting::default(),
            },
            term: Term::new(7),
            timestamp_ms: 1_700_000_000_123,
            remembered_ms: 1_700_000_000_123,
            addressed: true,
            ..ResultRecord::default()
        };
        let mut check = |change: &dyn Fn(&mut ResultRecord)| {
            change(&mut result);
            let mut written = b"before ".to_vec();
            write_result(&result, &mut written);
            let expected = serde_json::to_string(&ResultJson(&result)).unwrap();
            assert_eq!(std::str::from_utf8(&written[7..]).unwrap(), expected);
        };
        check(&|_| {});
        check(&|result| {
            result.kind = Some(CommandKind::Deposit);
            result.account_id = AccountId::new(1 << 62);
            result.currency = Some(Currency::parse(b"a.B-9_").unwrap());
            result.amount = Some(amount(1_500_000_000_000_000_000));
            result.around = Some(Around {
                before: state(0, 1, 0),
                after: state(10_i128.pow(36) - 1, 10, u64::MAX),
            });
            result.remembered_ms += 1;
        });
        for id in [
            "",
            "plain",
            "é€😀",
            "a\"b",
            "back\\slash",
            "\u{0}\u{1f}\n\t\u{7f}",
        ] {
            check(&|result| {
                result.transaction_id.set(id);
                result.user_id.set(&id.repeat(20));
            });
        }
        for code in [
            Code::InsufficientAvailable,
            Code::InsufficientFrozen,
            Code::BalanceOverflow,
        ] {
            check(&|result| result.status = Status::Failed(code));
        }
        check(&|result| result.status = Status::Duplicate);
        for leg in [None, Some("1/2/3/4/CREDIT"), Some("1/2/3/4/REFUND")] {
            check(&|result| {
                result.counterpart = Some(Box::new(Counterpart {
                    leg: leg.map(|name| name.parse().unwrap()),
                    user_id: {
                        let mut user_id = InlineText::new();
                        user_id.set("u \"2\"");
                        user_id
                    },
                    account_id: AccountId::MAX,
                }));
            });
        }
        check(&|result| {
            result.status = Status::Failed(Code::InsufficientFrozen);
            result.failed_posting = Some(FailedPosting {
                posting: Posting::new(3),
                kind: MoveKind::Settle,
                amount: amount(2),
                currency: Currency::parse(b"USDT").unwrap(),
            });
        });
        check(&|result| {
            result.status = Status::Refused(Code::Malformed);
            result.message = Some("\"quoted\"\u{8}".into());
            result.timestamp_ms = i64::MIN;
        });
    }

    #[test]
    fn a_debit_names_the_credit_that_left_with_it() {
        let mut result = ResultRecord {
            position: Position {
                generation: Generation::new(1),
                partition: Partition::new(2),
                offset: Offset::new(3),
                posting: Posting::new(4),
            },
            kind: Some(CommandKind::Transfer),
            counterpart: Some(Box::new(Counterpart {
                leg: None,
                user_id: InlineText::new(),
                account_id: AccountId::MAX,
            })),
            ..ResultRecord::default()
        };
        let named = |result: &ResultRecord| {
            let mut written = Vec::new();
            write_result(result, &mut written);
            assert_eq!(
                String::from_utf8(written.clone()).unwrap(),
                serde_json::to_string(&ResultJson(result)).unwrap()
            );
            let json: serde_json::Value = serde_json::from_slice(&written).unwrap();
            let text = |name: &str| json[name].as_str().map(str::to_owned);
            (text("creditLeg"), text("legName"), text("leg"))
        };
        let credit = "1/2/3/4/CREDIT";
        assert_eq!(named(&result), (Some(credit.into()), None, None));
        // Nothing leaves then.
        for status in [
            Status::Duplicate,
            Status::Failed(Code::InsufficientAvailable),
        ] {
            result.status = status;
            assert_eq!(named(&result), (None, None, None));
        }
        // The credit's own result has the name as its own.
        result.status = Status::Success;
        result.kind = Some(CommandKind::Credit);
        result.counterpart.as_mut().unwrap().leg = Some(credit.parse().unwrap());
        assert_eq!(
            named(&result),
            (None, Some(credit.into()), Some("CREDIT".into()))
        );
    }
}
