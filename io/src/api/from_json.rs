//! Requests as REST has them.

use super::{
    Problem, ProblemKind,
    draft::{ChangeDraft, OpenDraft, PostingDraft},
    strict::Value,
    wire::balance::TransactionType,
};

/// The header Idempotency-Key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderKey<'a> {
    pub(crate) text: &'a str,
    /// Whether it alone names a change. A signature does not cover it, so that whoever saw a signed
    /// body could send it again under other keys.
    pub(crate) is_believed: bool,
}

/// The fields of an object. Null is unset; unknown fields are ignored unless it is asked for their
/// end.
pub(crate) struct Fields {
    /// What stands before the names in messages, such as `postings[3].`.
    prefix: String,
    fields: Vec<(String, Value)>,
}

impl Fields {
    /// The fields of a body.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, Problem> {
        match Value::read(body)? {
            Value::Object(fields) => Ok(Self {
                prefix: String::new(),
                fields,
            }),
            other => {
                let message = format!("the body is {}, not an object", other.shown());
                Err(Problem::new(ProblemKind::Invalid, message))
            }
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(ours, _)| ours == name)?;
        let (_, value) = self.fields.swap_remove(at);
        (value != Value::Null).then_some(value)
    }

    /// Refuses fields that nobody took.
    fn end(&self) -> Result<(), Problem> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(Problem::field(name, "is not a field of this request")),
        }
    }

    fn wrong<T>(&self, name: &str, value: &Value, wanted: &str) -> Result<T, Problem> {
        let what = format!("{} is not {wanted}", value.shown());
        Err(Problem::field(format!("{}{name}", self.prefix), what))
    }

    /// A string; empty if unset.
    pub(crate) fn text(&mut self, name: &str) -> Result<String, Problem> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::Text(text)) => Ok(text),
            Some(other) => self.wrong(name, &other, "a string"),
        }
    }

    /// A string, or a number by its digits; empty if unset.
    fn decimal(&mut self, name: &str) -> Result<String, Problem> {
        match self.take(name) {
            None => Ok(String::new()),
            Some(Value::Text(text) | Value::Number(text)) => Ok(text),
            Some(other) => self.wrong(name, &other, "a decimal"),
        }
    }

    /// A whole number, or a string of its digits, since many readers have no numbers above 2^53;
    /// 0 if unset.
    pub(crate) fn whole(&mut self, name: &str) -> Result<i64, Problem> {
        let value = match self.take(name) {
            None => return Ok(0),
            Some(value) => value,
        };
        if let Value::Text(text) | Value::Number(text) = &value {
            let digits = text.strip_prefix('-').unwrap_or(text);
            if digits.bytes().all(|byte| byte.is_ascii_digit())
                && let Ok(number) = text.parse()
            {
                return Ok(number);
            }
        }
        self.wrong(name, &value, "a whole number of 64 bits")
    }

    fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => self.wrong(name, &other, "true or false"),
        }
    }

    /// A type by number or name.
    fn kind(&mut self, name: &str) -> Result<Option<i32>, Problem> {
        let value = match self.take(name) {
            None => return Ok(None),
            Some(value) => value,
        };
        let number = match &value {
            Value::Number(digits) => digits.parse().ok(),
            Value::Text(text) => TransactionType::from_str_name(text).map(|kind| kind as i32),
            _ => None,
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => self.wrong(
                name,
                &value,
                "a type, by number (0 to 5) or name (DEPOSIT, …)",
            ),
        }
    }

    fn posting(&mut self) -> Result<PostingDraft, Problem> {
        Ok(PostingDraft {
            kind: self.kind("type")?,
            currency_code: self.text("currency_code")?,
            amount: self.decimal("amount")?,
            to_user_id: self.text("to_user_id")?,
            to_account_id: self.whole("to_account_id")?,
        })
    }

    /// A list of objects; `None` if unset.
    fn objects(&mut self, name: &str) -> Result<Option<Vec<Self>>, Problem> {
        let values = match self.take(name) {
            None => return Ok(None),
            Some(Value::List(values)) => values,
            Some(other) => return self.wrong(name, &other, "a list"),
        };
        let objects = values.into_iter().enumerate().map(|(index, value)| {
            let name = format!("{name}[{index}]");
            match value {
                Value::Object(fields) => Ok(Self {
                    prefix: format!("{}{name}.", self.prefix),
                    fields,
                }),
                other => self.wrong(&name, &other, "an object"),
            }
        });
        objects.collect::<Result<_, _>>().map(Some)
    }

    /// A change, with the id of its header if the body has none.
    pub(crate) fn change(mut self, key: Option<HeaderKey<'_>>) -> Result<ChangeDraft, Problem> {
        self.take_change(key)
    }

    fn take_change(&mut self, key: Option<HeaderKey<'_>>) -> Result<ChangeDraft, Problem> {
        let mut transaction_id = self.text("transaction_id")?;
        if let Some(key) = key {
            if transaction_id.is_empty() && !key.is_believed {
                let what = "must be in the body: the signature does not cover Idempotency-Key";
                return Err(Problem::field("transaction_id", what));
            }
            if transaction_id.is_empty() {
                transaction_id = key.text.to_owned();
            } else if transaction_id != key.text {
                let what = "differs from the header Idempotency-Key";
                return Err(Problem::field("transaction_id", what));
            }
        }
        let mut draft = ChangeDraft {
            transaction_id,
            user_id: self.text("user_id")?,
            account_id: self.whole("account_id")?,
            single: self.posting()?,
            description: self.text("description")?,
            wait: self.flag("wait")?,
            wait_ms: self.whole("wait_ms")?,
            ..ChangeDraft::default()
        };
        match self.take("metadata") {
            None => {}
            Some(Value::Object(fields)) => {
                draft
                    .metadata
                    .extend(fields.into_iter().map(|(name, value)| {
                        let mut text = String::new();
                        value.write(&mut text);
                        (name, text)
                    }));
            }
            Some(other) => return self.wrong("metadata", &other, "an object"),
        }
        if let Some(postings) = self.objects("postings")? {
            if postings.is_empty() {
                return Err(Problem::field("postings", "is empty"));
            }
            for mut posting in postings {
                draft.postings.push(posting.posting()?);
            }
        }
        Ok(draft)
    }

    /// A transfer: a change whose type need not be said.
    pub(crate) fn transfer(mut self, key: Option<HeaderKey<'_>>) -> Result<ChangeDraft, Problem> {
        let mut draft = self.take_change(key)?;
        self.end()?;
        let transfer = TransactionType::Transfer as i32;
        if !draft.postings.is_empty() {
            return Err(Problem::field("postings", "belongs to /balance/change"));
        }
        match draft.single.kind {
            None => draft.single.kind = Some(transfer),
            Some(kind) if kind == transfer => {}
            Some(kind) => {
                let what = format!("{kind} is not {transfer}, TRANSFER");
                return Err(Problem::field("type", what));
            }
        }
        Ok(draft)
    }

    /// Changes and how to wait for them. A change that cannot be read is answered by itself.
    #[allow(clippy::type_complexity, reason = "two lists of results")]
    pub(crate) fn changes(
        mut self,
    ) -> Result<(Vec<Result<ChangeDraft, Problem>>, bool, i64), Problem> {
        let changes = self.objects("changes")?.unwrap_or_default();
        let (wait, wait_ms) = (self.flag("wait")?, self.whole("wait_ms")?);
        self.end()?;
        let changes = changes.into_iter().map(|fields| {
            let plain = Self {
                prefix: String::new(),
                ..fields
            };
            plain.change(None)
        });
        Ok((changes.collect(), wait, wait_ms))
    }

    /// A request for an account.
    pub(crate) fn open(mut self) -> Result<OpenDraft, Problem> {
        let draft = OpenDraft {
            user_id: self.text("user_id")?,
            account_id: self.whole("account_id")?,
        };
        self.end()?;
        Ok(draft)
    }
}
