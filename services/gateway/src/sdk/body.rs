//! Bodies of the HTTP API: read up to a limit, decompressed up to a limit.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How much of a refused body is read and thrown away, so that a client on HTTP/1.1 gets to see the answer instead of a
/// broken connection.
const DISCARDED_BYTES_MAX: usize = 16 << 20;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// A body that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than {bytes_max} bytes; send smaller batches")]
    TooLarge { bytes_max: u64 },
    #[error("the body is larger than {bytes_max} bytes after decompression; send smaller batches")]
    TooLargeDecompressed { bytes_max: u64 },
    #[error("the body cannot be decompressed as {encoding}: {reason}")]
    NotCompressed { encoding: &'static str, reason: String },
    #[error("content-encoding {encoding:?} is not supported; use gzip or none")]
    UnknownEncoding { encoding: String },
    #[error("the body broke off: {reason}")]
    Broken { reason: String },
    #[error("too many bytes of bodies are in memory; try again")]
    NoRoom,
    #[error("the body did not arrive within {} ms", limit.as_millis())]
    TooSlow { limit: Duration },
}

/// Takes from `room` what `bytes` need.
pub(crate) fn hold(room: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, BodyError> {
    let bytes = u32::try_from(bytes).map_err(|_| BodyError::NoRoom)?;
    room.try_acquire_many(bytes).map_err(|_| BodyError::NoRoom)
}

/// Reads all of a body, within `room`.
pub(crate) async fn read<'a>(
    body: &mut Body,
    bytes_max: u64,
    limit: Duration,
    room: &'a Semaphore,
) -> Result<(Bytes, SemaphorePermit<'a>), BodyError> {
    let mut bytes = BytesMut::new();
    let mut held = hold(room, 0)?;
    let reading = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| BodyError::Broken { reason: error.to_string() })?;
            let Ok(data) = frame.into_data() else { continue };
            if (bytes.len() + data.len()) as u64 > bytes_max {
                return Err(BodyError::TooLarge { bytes_max });
            }
            held.merge(hold(room, data.len())?);
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(limit, reading).await.unwrap_or(Err(BodyError::TooSlow { limit }))?;
    Ok((bytes.freeze(), held))
}

/// Reads on for a while without keeping anything.
pub(crate) async fn discard(mut body: Body) {
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > DISCARDED_BYTES_MAX {
                return;
            }
        }
    };
    // Whoever is slower than this sees a broken connection.
    let _ = tokio::time::timeout(DISCARD_TIMEOUT, reading).await;
}

/// Undoes compression, whether the header tells of it or only the first bytes do. A header that tells of gzip where there is
/// plain JSON is ignored: a proxy on the way may have unpacked it.
pub(crate) fn decompress(body: Bytes, encoding: Option<&str>, bytes_max: u64) -> Result<Bytes, BodyError> {
    let encoding = encoding.map(|text| text.trim().to_ascii_lowercase()).unwrap_or_default();
    if body.starts_with(&[0x1f, 0x8b]) {
        return unpack("gzip", MultiGzDecoder::new(&body[..]), bytes_max);
    }
    let is_plain = body.iter().find(|b| !b.is_ascii_whitespace()).is_none_or(|b| matches!(b, b'{' | b'['));
    match encoding.as_str() {
        "deflate" if !is_plain && body.first() == Some(&0x78) => unpack("deflate", ZlibDecoder::new(&body[..]), bytes_max),
        "deflate" if !is_plain => unpack("deflate", DeflateDecoder::new(&body[..]), bytes_max),
        "" | "identity" | "gzip" | "x-gzip" | "deflate" => {
            if body.len() as u64 > bytes_max {
                Err(BodyError::TooLargeDecompressed { bytes_max })
            } else {
                Ok(body)
            }
        }
        _ => Err(BodyError::UnknownEncoding { encoding }),
    }
}

fn unpack(encoding: &'static str, reader: impl Read, bytes_max: u64) -> Result<Bytes, BodyError> {
    let mut plain = Vec::new();
    // One byte more than allowed is enough to know; the rest of a bomb is never unpacked.
    match reader.take(bytes_max + 1).read_to_end(&mut plain) {
        Ok(_) if plain.len() as u64 > bytes_max => Err(BodyError::TooLargeDecompressed { bytes_max }),
        Ok(_) => Ok(plain.into()),
        Err(error) => Err(BodyError::NotCompressed { encoding, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use std::io::Write;

    const TEXT: &[u8] = br#"{"batch":[]}"#;

    fn gzip(plain: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).expect("in memory");
        encoder.finish().expect("in memory").into()
    }

    #[test]
    fn compression_is_recognised_by_header_or_first_bytes() {
        assert_eq!(decompress(gzip(TEXT), Some("gzip"), 100).as_deref(), Ok(TEXT));
        assert_eq!(decompress(gzip(TEXT), None, 100).as_deref(), Ok(TEXT));
        assert_eq!(decompress(Bytes::from_static(TEXT), Some("GZIP"), 100).as_deref(), Ok(TEXT));
        assert_eq!(decompress(Bytes::from_static(TEXT), None, 100).as_deref(), Ok(TEXT));
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
        zlib.write_all(TEXT).expect("in memory");
        assert_eq!(decompress(zlib.finish().expect("in memory").into(), Some("deflate"), 100).as_deref(), Ok(TEXT));
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::best());
        raw.write_all(TEXT).expect("in memory");
        assert_eq!(decompress(raw.finish().expect("in memory").into(), Some("deflate"), 100).as_deref(), Ok(TEXT));
    }

    #[test]
    fn a_bomb_is_not_unpacked_beyond_the_limit_and_rubbish_is_named() {
        let bomb = gzip(&vec![b' '; 8 << 20]);
        assert!(bomb.len() < 10_000);
        assert_eq!(decompress(bomb, None, 1_000), Err(BodyError::TooLargeDecompressed { bytes_max: 1_000 }));
        let mut cut = gzip(TEXT).to_vec();
        cut.truncate(15);
        assert!(matches!(decompress(cut.into(), None, 100), Err(BodyError::NotCompressed { encoding: "gzip", .. })));
        assert!(matches!(decompress(Bytes::from_static(TEXT), Some("br"), 100), Err(BodyError::UnknownEncoding { .. })));
    }
}
