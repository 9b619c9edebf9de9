//! segue-identity
