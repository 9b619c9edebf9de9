//! segue-ingest
