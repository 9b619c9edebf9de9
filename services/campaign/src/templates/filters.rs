//! Filters beside MiniJinja's own: `money(currency)`, `date(format, zone)`, `json`. `urlencode` is MiniJinja's. None reads anything but its
//! arguments and the person's zone.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, TimeZone, Utc};
use chrono_tz::Tz;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

/// Digits before the point that an amount may have.
const WHOLE_DIGITS_MAX: usize = 30;
const DATE_FORMAT_BYTES_MAX: usize = 100;

/// Makes the filters known.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("money", money);
    environment.add_filter("date", date);
    environment.add_filter("json", json);
}

fn refuse<T>(detail: String) -> Result<T, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// Whether a filter is to answer with nothing: its value is missing, and may be.
fn is_missing(state: &State<'_, '_>, value: &Value) -> Result<bool, Error> {
    if !value.is_undefined() {
        return Ok(false);
    }
    match state.undefined_behavior() {
        UndefinedBehavior::Lenient | UndefinedBehavior::Chainable => Ok(true),
        _ => Err(Error::from(ErrorKind::UndefinedError)),
    }
}

/// `₩12,000`, `$1,234.50`, `1,234.50 CHF`: an amount as its currency is counted, rounded half away from zero.
fn money(state: &State<'_, '_>, value: Value, currency: String) -> Result<String, Error> {
    if is_missing(state, &value)? {
        return Ok(String::new());
    }
    if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
        return refuse(format!("`{currency}` is not a currency: write its three letters, as in money(\"KRW\")"));
    }
    let digits = match currency.as_str() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    let text = match (value.kind(), value.as_str()) {
        (_, Some(text)) => text.trim().to_owned(),
        (ValueKind::Number, None) => value.to_string(),
        _ => return refuse(format!("{} is not an amount of money", value.kind())),
    };
    let Some((negative, amount)) = amount(&text, digits) else {
        return refuse("the value is not an amount of money such as 1234.5".to_owned());
    };
    let sign = if negative { "-" } else { "" };
    Ok(match currency.as_str() {
        "KRW" => format!("{sign}₩{amount}"),
        "JPY" => format!("{sign}¥{amount}"),
        "USD" => format!("{sign}${amount}"),
        "EUR" => format!("{sign}€{amount}"),
        "GBP" => format!("{sign}£{amount}"),
        other => format!("{sign}{amount} {other}"),
    })
}

/// Whether a decimal is below zero, and its amount with so many digits after the point.
fn amount(text: &str, digits: usize) -> Option<(bool, String)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > WHOLE_DIGITS_MAX || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let mut scaled: u128 = whole.parse().ok()?;
    for at in 0..digits {
        let digit = fraction.as_bytes().get(at).map_or(0, |digit| u128::from(digit - b'0'));
        scaled = scaled * 10 + digit;
    }
    if fraction.as_bytes().get(digits).is_some_and(|digit| *digit >= b'5') {
        scaled += 1;
    }
    let one = 10u128.pow(u32::try_from(digits).ok()?);
    let whole = (scaled / one).to_string();
    let mut amount = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            amount.push(',');
        }
        amount.push(digit);
    }
    if digits > 0 {
        amount.push_str(&format!(".{:0digits$}", scaled % one));
    }
    Some((negative && scaled > 0, amount))
}

/// A time (RFC 3339) or day (`YYYY-MM-DD`) as the clock of a zone shows it: that given, else the person's, else UTC. The format is that of
/// `strftime`.
fn date(state: &State<'_, '_>, value: Value, format: Option<String>, zone: Option<String>) -> Result<String, Error> {
    if is_missing(state, &value)? {
        return Ok(String::new());
    }
    let format = format.unwrap_or_else(|| "%Y-%m-%d".to_owned());
    let items: Vec<Item<'_>> = StrftimeItems::new(&format).collect();
    if format.len() > DATE_FORMAT_BYTES_MAX || items.contains(&Item::Error) {
        return refuse(format!("`{}` is not a format such as %Y-%m-%d %H:%M", format.chars().take(50).collect::<String>()));
    }
    let zone = match zone {
        Some(zone) => zone,
        None => persons_zone(state).unwrap_or_default(),
    };
    let zone: Tz = match zone.as_str() {
        "" => Tz::UTC,
        zone => match zone.parse() {
            Ok(zone) => zone,
            Err(_) => return refuse("the zone is not one of the IANA database, such as Asia/Seoul".to_owned()),
        },
    };
    let text = value.as_str().unwrap_or_default();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.with_timezone(&zone).format_with_items(items.iter()).to_string());
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        // A day is the same in every zone.
        let midnight: DateTime<FixedOffset> = Utc.from_utc_datetime(&day.and_time(NaiveTime::MIN)).into();
        return Ok(midnight.format_with_items(items.iter()).to_string());
    }
    refuse("the value is neither a time such as 2026-11-22T16:45:10Z nor a day such as 2026-11-22".to_owned())
}

fn persons_zone(state: &State<'_, '_>) -> Option<String> {
    let zone = state.lookup("person")?.get_attr("time_zone").ok()?;
    zone.as_str().map(str::to_owned)
}

/// A value as JSON, safe inside of HTML too.
fn json(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    state.apply_filter("tojson", &[value])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(source: &str, value: impl Into<Value>) -> Result<String, String> {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let person = Value::from_pairs([("time_zone", Value::from("Asia/Seoul"))]);
        let values = Value::from_pairs([("v", value.into()), ("person", person)]);
        environment.render_str(source, values).map_err(|error| error.to_string())
    }

    #[test]
    fn money_is_written_as_its_currency_is_counted() {
        for (value, currency, written) in [
            (Value::from(12_000), "KRW", "₩12,000"),
            (Value::from(1_234_567.5), "KRW", "₩1,234,568"),
            (Value::from("1234.5"), "USD", "$1,234.50"),
            (Value::from("0.005"), "EUR", "€0.01"),
            (Value::from("-0.004"), "EUR", "€0.00"),
            (Value::from("-1234.565"), "GBP", "-£1,234.57"),
            (Value::from(1.5), "KWD", "1.500 KWD"),
            (Value::from(999), "CHF", "999.00 CHF"),
            (Value::from("999999999999999999999999999999"), "JPY", "¥999,999,999,999,999,999,999,999,999,999"),
        ] {
            assert_eq!(filled(&format!("{{{{ v|money('{currency}') }}}}"), value).as_deref(), Ok(written));
        }
        for value in ["", "1e5", "1,000", "x", "9999999999999999999999999999999", "1.2.3", "--1"] {
            assert!(filled("{{ v|money('KRW') }}", value).is_err(), "{value:?}");
        }
        assert!(filled("{{ v|money('won') }}", 1).is_err() && filled("{{ [1]|money('KRW') }}", 1).is_err());
        assert_eq!(filled("{{ missing|money('KRW') }}", 1).as_deref(), Ok(""));
    }

    #[test]
    fn dates_are_those_of_the_clock_in_a_zone() {
        let time = "2026-11-22T16:45:10Z";
        assert_eq!(filled("{{ v|date('%m/%d %H:%M') }}", time).as_deref(), Ok("11/23 01:45"));
        assert_eq!(filled("{{ v|date('%m/%d %H:%M', 'America/New_York') }}", time).as_deref(), Ok("11/22 11:45"));
        assert_eq!(filled("{{ v|date }}", time).as_deref(), Ok("2026-11-23"));
        assert_eq!(filled("{{ v|date('%Y.%m.%d') }}", "2026-11-22").as_deref(), Ok("2026.11.22"));
        for source in ["{{ v|date('%Q') }}", "{{ v|date('%') }}", "{{ v|date('%H', 'Mars') }}", "{{ 'soon'|date }}", "{{ 5|date }}"] {
            assert!(filled(source, time).is_err(), "{source}");
        }
        assert!(filled(&format!("{{{{ v|date('{}') }}}}", "%c".repeat(51)), time).is_err());
    }

    #[test]
    fn addresses_and_json_are_encoded() {
        assert_eq!(filled("{{ v|urlencode }}", "a b&c=d?é").as_deref(), Ok("a%20b%26c%3Dd%3F%C3%A9"));
        assert_eq!(filled("{{ v|json }}", "</script>\"").as_deref(), Ok(r#""\u003c/script\u003e\"""#));
    }
}
