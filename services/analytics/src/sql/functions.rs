//! The scalar functions that may be called. Others are refused by name: most make much of little, take very long for one batch, or build
//! types that double at each level; some tell of the machine. A new version of DataFusion brings no function by itself.
//!
//! To add one: its name here, and a line in `growth` if its result can be larger than its arguments.

/// Names as DataFusion has them; their aliases come with them.
const ALLOWED: [&str; 128] = [
    // What is missing or null.
    "coalesce",
    "greatest",
    "least",
    "nanvl",
    "nullif",
    "nvl",
    "nvl2",
    // Numbers.
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "to_hex",
    "trunc",
    // Texts.
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "lower",
    "ltrim",
    "octet_length",
    "overlay",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "replace",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "translate",
    "upper",
    "uuid",
    super::growth::CONCATENATION,
    // Times.
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "make_time",
    "now",
    "to_char",
    "to_date",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    // Lists, and the fields of items.
    "array_any_value",
    "array_append",
    "array_concat",
    "array_distinct",
    "array_element",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_length",
    "array_max",
    "array_min",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_remove",
    "array_remove_all",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_to_string",
    "array_union",
    "arrow_typeof",
    "cardinality",
    "empty",
    "flatten",
    "get_field",
    "make_array",
    "string_to_array",
];

/// Whether a function may be called, by the name that DataFusion has for it.
pub(super) fn is_allowed(function: &str) -> bool {
    ALLOWED.contains(&function)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use datafusion::execution::SessionStateDefaults;

    use super::*;

    #[test]
    fn every_name_is_that_of_a_function() {
        let known: HashSet<String> =
            SessionStateDefaults::default_scalar_functions().iter().map(|function| function.name().to_owned()).collect();
        let own = [super::super::growth::CONCATENATION];
        let unknown: Vec<&str> = ALLOWED.into_iter().filter(|name| !own.contains(name) && !known.contains(*name)).collect();
        assert_eq!(unknown, Vec::<&str>::new());
        assert_eq!(ALLOWED.iter().collect::<HashSet<_>>().len(), ALLOWED.len());
    }
}
