//! Places of IP addresses, from a MaxMind database that the operator provides.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::Reader;
use serde::Deserialize;

use crate::StartError;

/// A database of places, in memory.
pub struct Places(Reader<Vec<u8>>);

/// Where an address is; empty where unknown.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// ISO 3166-1 alpha-2 code.
    pub country: &'a str,
    /// Name of the first subdivision, in English.
    pub region: &'a str,
    /// Name in English.
    pub city: &'a str,
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Country<'a>>,
    #[serde(borrow)]
    subdivisions: Option<Vec<Named<'a>>>,
    #[serde(borrow)]
    city: Option<Named<'a>>,
}

#[derive(Deserialize)]
struct Country<'a> {
    iso_code: Option<&'a str>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    names: Option<Names<'a>>,
}

#[derive(Deserialize)]
struct Names<'a> {
    en: Option<&'a str>,
}

impl Places {
    /// Reads the database.
    pub fn open(path: &Path) -> Result<Self, StartError> {
        match Reader::open_readfile(path) {
            Ok(reader) => Ok(Self(reader)),
            Err(maxminddb::MaxMindDbError::Io(source)) => Err(StartError::File { path: path.display().to_string(), source }),
            Err(error) => Err(StartError::BadFile { path: path.display().to_string(), reason: error.to_string() }),
        }
    }

    /// Where an address is. Nothing when the database does not know, or the record is damaged.
    pub fn find(&self, address: IpAddr) -> Place<'_> {
        let Ok(Some(record)) = self.0.lookup::<Record<'_>>(address) else { return Place::default() };
        Place {
            country: record.country.and_then(|country| country.iso_code).unwrap_or_default(),
            region: record.subdivisions.and_then(|all| all.into_iter().next()).and_then(english).unwrap_or_default(),
            city: record.city.and_then(english).unwrap_or_default(),
        }
    }
}

fn english(named: Named<'_>) -> Option<&str> {
    named.names?.en
}
