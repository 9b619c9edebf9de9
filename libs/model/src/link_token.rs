//! What the tokens of links have in common for who makes them and who passes them on: the tenant stands at their beginning, readable.
//!
//! `<tenant>.<signed rest>`: the gateway reads the tenant to know where a request belongs; only the campaign service, which has the
//! tenant's secret, can say whether the token is genuine.

use crate::TenantId;

/// Between the tenant and the signed rest. No tenant id has it.
pub const SEPARATOR: char = '.';

/// Longest token that is looked at, in bytes: the longest address in it, in base64, with room for the rest.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// The tenant that a token names. Says nothing about whether the token is genuine.
pub fn tenant_of(token: &str) -> Option<TenantId> {
    split(token).map(|(tenant, _)| tenant)
}

/// The tenant and the rest of a token.
pub fn split(token: &str) -> Option<(TenantId, &str)> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (tenant, rest) = token.split_once(SEPARATOR)?;
    if rest.is_empty() { None } else { Some((tenant.parse().ok()?, rest)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_stands_before_the_first_dot() {
        assert_eq!(tenant_of("shop-1.AbC_-").as_ref().map(TenantId::as_str), Some("shop-1"));
        assert_eq!(split("shop.a.b").map(|(tenant, rest)| (tenant.to_string(), rest)), Some(("shop".to_owned(), "a.b")));
        let long = format!("shop.{}", "a".repeat(TOKEN_BYTES_MAX));
        for token in ["", ".", "shop", "shop.", ".abc", "Shop.abc", "1.abc", "sh\u{f6}p.abc", long.as_str()] {
            assert_eq!(tenant_of(token), None, "{token:.40}");
        }
    }
}
