//! segue-node
