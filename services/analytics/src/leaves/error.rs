//! Why a question was not answered by a plan.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use segue_model::{Code, FieldViolation};
use segue_runtime::status::ServiceError;

use crate::question::QueryError;

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum InquiryError {
    /// The question cannot be answered as it is. Several partitions may tell the same error.
    #[error(transparent)]
    Query(Arc<QueryError>),
    /// The partial results do not fit into the memory of a plan.
    #[error("the question needs more memory for its partial results than a plan may take: narrow the range or the filters")]
    Memory(#[source] Box<DataFusionError>),
    /// A plan could not be made or executed.
    #[error("the query engine failed: retry, and report it if it happens again")]
    Engine(#[source] Box<DataFusionError>),
}

/// An error of a leaf on its way through DataFusion, which may share it between operators.
pub(super) fn through_plan(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(Arc::new(error)))
}

/// An error of a leaf that came through DataFusion.
fn own(error: &DataFusionError) -> Option<Arc<QueryError>> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(found) = current.downcast_ref::<Arc<QueryError>>() {
            return Some(found.clone());
        }
        source = match current.downcast_ref::<Arc<DataFusionError>>() {
            Some(shared) => Some(shared.as_ref()),
            None => current.source(),
        };
    }
    None
}

impl From<QueryError> for InquiryError {
    fn from(error: QueryError) -> Self {
        Self::Query(Arc::new(error))
    }
}

impl From<DataFusionError> for InquiryError {
    fn from(error: DataFusionError) -> Self {
        if let Some(found) = own(&error) {
            return Self::Query(found);
        }
        let is_memory = matches!(error.find_root(), DataFusionError::ResourcesExhausted(_));
        let error = Box::new(error);
        if is_memory { Self::Memory(error) } else { Self::Engine(error) }
    }
}

impl ServiceError for InquiryError {
    fn code(&self) -> Code {
        match self {
            Self::Query(error) => error.code(),
            Self::Memory(_) => Code::ResourceExhausted,
            Self::Engine(_) => Code::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Query(error) => error.reason(),
            Self::Memory(_) => "TOO_MUCH_MEMORY",
            Self::Engine(_) => "QUERY_ENGINE",
        }
    }

    fn field_violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Query(error) => error.field_violations(),
            Self::Memory(_) | Self::Engine(_) => Vec::new(),
        }
    }
}
