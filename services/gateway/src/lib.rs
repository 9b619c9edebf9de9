//! segue-gateway
