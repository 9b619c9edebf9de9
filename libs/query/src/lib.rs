//! Conditions as text: `did df_app_open within 90 days and never did df_sign_up`. One form for the command line, logs and reviews, which
//! parses back to the same condition.
//!
//! [`parse`] reads a text, [`format()`] writes one, [`walk`] visits the nodes of a condition. The law that holds them together, with
//! [`normalise`] for the few messages that the contract says mean the same:
//!
//! ```text
//! parse(format(condition)) = normalise(condition)        format(parse(text)) is the usual form of text
//! ```
//!
//! # How it reads
//!
//! Each of these is its own usual form.
//!
//! ```
//! # for text in [
//! # r#"
//! did df_app_open within 90 days and never did df_sign_up
//! # "#, r#"
//! did df_purchase of items where category1 is "childcare" with sum of price × quantity at least 1000000 within 6 months
//! # "#, r#"
//! did df_app_open then df_purchase within 2 hours without df_logout between, in the last 30 days
//! # "#, r#"
//! did one of (df_purchase, "Order Completed") where (platform is "ios" and df_total_purchase_amount is at least 12.5) at least 3 times
//! # "#, r#"
//! did df_app_open on at least 5 different days within 2 weeks
//! # "#, r#"
//! never did df_purchase where any item item_name contains any of ("stroller", "cradle")
//! # "#, r#"
//! did df_purchase with first time at or after 2026-01-01T00:00:00Z
//! # "#, r#"
//! did anything where utm_source is one of ("naver", "google") from 2026-01-01T00:00:00Z to before 2026-02-01T00:00:00Z
//! # "#, r#"
//! trait df_membership is "gold" or trait points is from 100 to below 200 as of 2026-01-01T00:00:00Z
//! # "#, r#"
//! last touch within 1 month where ad_partner exists
//! # "#, r#"
//! not (has email) and (in segment big_spenders or in audience lapsed or on list staff)
//! # "#, r#"
//! bucket "spring" from 0 to below 5000
//! # "#] {
//! #     let usual = text.trim();
//! #     assert_eq!(segue_query::format(&segue_query::parse(usual).unwrap()).unwrap(), usual);
//! # }
//! ```
//!
//! # Grammar
//!
//! Words may be in upper or lower case; a line break is a space. `×` may be written `x` or `*`.
//!
//! ```text
//! condition   = joined { "or" joined }                    (* any *)
//! joined      = operand { "and" operand }                 (* all; binds closer than or *)
//! operand     = "not" operand | "(" condition ")"
//!             | "all of (" [ condition { "," condition } ] ")" | "any of (" [ condition { "," condition } ] ")"
//!             | "everyone" | "nobody"                     (* all and any of nothing *)
//!             | behavior | sequence | trait | touch | bucket | persons | group | identifier
//!
//! behavior    = "did" events { clause } | "never did" events { clause }     (* each clause once; after never, none of measure *)
//! clause      = "where" test | "of items where" item-test | measure | window
//! events      = name | "anything" | "one of (" name { "," name } ")"
//! measure     = amount ( "once" | "twice" | integer "times" )               (* count; nothing: at least once *)
//!             | "on" amount integer [ "different" ] "days"                   (* distinct days *)
//!             | "with" aggregate comparison
//! amount      = "at least" | "at most" | "more than" | "fewer than" | "exactly"
//! aggregate   = "number of times" | "number of days" | "first time" | "last time"
//!             | ( "sum of" | "smallest" | "largest" ) ( "price × quantity" | measured )
//!             | ( "number of different" | "first value of" | "last value of" ) measured
//! measured    = field | "item" name
//! window      = "within" span | "in the last" span | "from" time "to" [ "before" ] time | "ever"
//! span        = integer ( "seconds" | "minutes" | "hours" | "days" | "weeks" | "months" )
//!
//! sequence    = "did" step "then" step { "then" step } { "within" span | "without" step "between" | window }
//!                                                         (* within is the time from the first step to the last; it is required, and the
//!                                                            window is said with "in the last" or "from" *)
//! step        = events [ "where" test ]
//!
//! test        = "not" test | "(" tests ")" | "all of (" [ tests { "," tests } ] ")" | "any of (" … ")" | tested comparison
//! tests       = test { "and" test } { "or" test { "and" test } }
//! tested      = field | ( "any item" | "every item" | "no item" ) name
//! item-test   = the same, where tested is the name of an item property
//! field       = name | "property" name | "dimension" name
//!
//! comparison  = "is" values | "is not" values
//!             | ["is"] ( "at least" | "at most" | "more than" | "less than" | "at or after" | "at or before" | "after" | "before" ) value
//!             | ["is"] "from" value "to" ( "below" | "before" ) value        (* the first is included, the second is not *)
//!             | ( "contains" | "does not contain" | "starts with" | "ends with" ) values
//!             | "exists" | "does not exist"
//! values      = value | ( "one of" | "any of" ) "(" value { "," value } ")"
//! value       = text | integer | decimal | double | time | "true" | "false" | "json" text
//!
//! trait       = "trait" name comparison [ "as of" time ]
//! touch       = ( "first touch" | "last touch" ) { window | "where" test }
//! bucket      = "bucket" name "from" integer "to" [ "below" ] integer
//! persons     = "persons base64" text [ "labelled" text ]
//! group       = "in segment" name | "in audience" name | "on list" name
//! identifier  = "has" name
//! ```
//!
//! - **Names** stand bare when they are letters, digits, `_` and `$`, not beginning with a digit, with `-`, `.` or `:` only in between
//!   (`abx:purchase`), and no word of the language; else in quotes.
//! - **Texts** stand in double quotes, with `\"`, `\\`, `\n`, `\r`, `\t` and `\u{1F600}`.
//! - **Numbers** keep their kind: `5` is whole, `12.5` an exact decimal of at most four places, `12.5e0` (with an exponent) a double, as
//!   are `infinity` and `-infinity`. `1_000_000` may be written.
//! - **Times** are RFC 3339: `2026-11-22T12:00:00Z`, `2026-11-22T21:00:00+09:00`.
//! - **Bare fields** are built-in dimensions where there is one of the name (`platform`, `ad_partner`, `event`, …), else properties of the
//!   event; `property` and `dimension` say it in so many words. Dimensions that come later need `dimension`.
//! - **Items**: `where any item category1 is "x"` selects events; `of items where category1 is "x"` selects items, so that sums are over
//!   them alone. `where item category1 is "x"`, without saying which, is the latter.
//! - `=`, `!=`, `<`, `<=`, `>` and `>=` may stand for their words. A comma may stand before a clause.
//!
//! # Faults
//!
//! ```
//! let error = segue_query::parse("did df_app_open within 90 years").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "at character 27: found `years`, expected one of `seconds`, `second`, `minutes`, `minute`, `hours`, `hour`, `days`, `day`, \
//!      `weeks`, `week`, `months` and `month`; years are written in months: `12 months`
//! did df_app_open within 90 years
//!                           ^^^^^"
//! );
//! ```

mod depth;
mod error;
mod exact;
mod lexer;
mod matching;
mod names;
mod normal;
mod parser;
mod time;
mod walk;
mod writer;

pub use error::{FormatError, FormatFault, ParseError};
pub use matching::{field_text, matches, property_of, property_text, value_order, value_text};
pub use normal::normalise;
pub use parser::{parse, parse_span};
pub use walk::{walk, walk_from};
pub use writer::{format, format_span, format_value};

/// Of a text that [`parse`] takes.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Levels of a condition and of the tests within it, together.
pub const NESTING_MAX: usize = 32;
