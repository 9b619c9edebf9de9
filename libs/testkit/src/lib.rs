//! segue-testkit
