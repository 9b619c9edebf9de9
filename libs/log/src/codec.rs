//! Compression of payloads: zstd level 1, each frame with a checksum, so that a damaged batch is noticed where it is read.

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::LogError;
use crate::config::PAYLOAD_BYTES_CAP;

/// Speed matters more than size here: level 1 packs events about as well as level 3 at twice the speed.
const LEVEL: i32 = 1;
/// Payloads larger than this are compressed and decompressed off the async threads (about a millisecond of work).
const INLINE_BYTES_MAX: usize = 512 << 10;

/// Compresses a payload.
pub(crate) async fn compress(payload: Bytes) -> Result<Bytes, LogError> {
    if payload.len() <= INLINE_BYTES_MAX {
        return compress_now(&payload).map_err(LogError::storage);
    }
    tokio::task::spawn_blocking(move || compress_now(&payload)).await.map_err(LogError::storage)?.map_err(LogError::storage)
}

fn compress_now(payload: &[u8]) -> std::io::Result<Bytes> {
    thread_local! {
        // A context is about a megabyte of tables: one per thread, not one per batch.
        static COMPRESSOR: std::cell::RefCell<Option<Compressor<'static>>> = const { std::cell::RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => {
                let mut compressor = Compressor::new(LEVEL)?;
                compressor.set_parameter(CParameter::ChecksumFlag(true))?;
                slot.insert(compressor)
            }
        };
        compressor.compress(payload).map(Bytes::from)
    })
}

/// Decompresses to exactly `size` bytes, or says what is wrong. Never allocates more than the cap.
pub(crate) fn decompress(compressed: &[u8], size: usize) -> Result<Bytes, String> {
    thread_local! {
        static DECOMPRESSOR: std::cell::RefCell<Option<Decompressor<'static>>> = const { std::cell::RefCell::new(None) };
    }
    if size > PAYLOAD_BYTES_CAP {
        return Err(format!("it claims {size} bytes, more than the {PAYLOAD_BYTES_CAP} that any batch may have"));
    }
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(Decompressor::new().map_err(|error| error.to_string())?),
        };
        let payload = decompressor.decompress(compressed, size).map_err(|error| error.to_string())?;
        if payload.len() != size {
            return Err(format!("it has {} bytes and should have {size}", payload.len()));
        }
        Ok(Bytes::from(payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_compressed_comes_back_and_damage_is_noticed() {
        for size in [0usize, 1, 1000, 2 << 20] {
            let payload = Bytes::from((0..size).map(|i| (i % 251) as u8).collect::<Vec<_>>());
            let packed = compress(payload.clone()).await.unwrap();
            assert_eq!(decompress(&packed, size).unwrap(), payload);
            for at in [0, packed.len() / 2, packed.len() - 1] {
                let mut damaged = packed.to_vec();
                damaged[at] ^= 0x10;
                assert!(decompress(&damaged, size).is_err(), "size {size}, byte {at}");
            }
            assert!(decompress(&packed, size + 1).is_err());
        }
        assert!(decompress(&[], usize::MAX).is_err());
    }
}
