//! segue-log
