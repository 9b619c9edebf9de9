//! segue-runtime
