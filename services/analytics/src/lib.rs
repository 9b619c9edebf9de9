//! segue-analytics
