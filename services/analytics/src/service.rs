//! Dispatch of `AnalyticsService`, and how queries run: on blocking threads, a few at once, ended when the caller goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::DateTime;
use segue_model::{Clock, Module};
use segue_proto::analytics::v1::analytics_service_server::AnalyticsService;
use segue_proto::analytics::v1::{
    CountPersonsRequest, CountPersonsResponse, DeletePersonEventsRequest, DeletePersonEventsResponse, EvaluateConditionsRequest,
    EvaluateConditionsResponse, ExplainConditionRequest, ExplainConditionResponse, GetIndexStatusRequest, GetIndexStatusResponse,
    GetPersonTimelineRequest, GetPersonTimelineResponse, ListDimensionValuesRequest, ListDimensionValuesResponse, ListDimensionsRequest,
    ListDimensionsResponse, QueryEventsRequest, QueryEventsResponse, QueryFunnelRequest, QueryFunnelResponse, QueryPathRequest,
    QueryPathResponse, QueryRetentionRequest, QueryRetentionResponse, QuerySessionsRequest, QuerySessionsResponse, QuerySqlRequest,
    QuerySqlResponse, SelectPersonsRequest, SelectPersonsResponse,
};
use segue_runtime::caller::{Caller, Role};
use segue_runtime::status::reply;
use segue_runtime::{Tenant, TenantDirectory};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::error::AnalyticsError;
use crate::funnel;
use crate::index::{Index, NotYet};
use crate::question::{Context, QueryError, QueryLimits};
use crate::scan::timestamp_of;
use crate::sql::{self, SqlConfig, SqlRuntime};
use crate::{dimension_values, evaluation, explanation, path, persons, report, retention, sessions, timeline};

/// Longest id of a request.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Calls of `EvaluateConditions` at once.
const EVALUATIONS_MAX: usize = 2;

/// The service.
pub(crate) struct Service {
    index: Index,
    tenants: TenantDirectory,
    running: Arc<Semaphore>,
    /// Statements, which may take long without looking at the clock: they never keep a report waiting.
    sql_running: Arc<Semaphore>,
    /// Calls that keep membership live: neither they nor reports keep the other waiting.
    evaluating: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    wait_max: Duration,
    query_max: Duration,
    limits: QueryLimits,
    sql: SqlConfig,
    sql_runtime: SqlRuntime,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
}

/// One of those that wait for their turn.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    pub(crate) fn new(
        index: Index,
        tenants: TenantDirectory,
        config: &Config,
        clock: Arc<dyn Clock>,
        stopping: CancellationToken,
    ) -> std::io::Result<Self> {
        Ok(Self {
            index,
            tenants,
            running: Arc::new(Semaphore::new(config.queries_max)),
            sql_running: Arc::new(Semaphore::new(config.sql.queries_max)),
            evaluating: Arc::new(Semaphore::new(EVALUATIONS_MAX)),
            waiting: AtomicUsize::new(0),
            waiting_max: config.queries_waiting_max,
            wait_max: Duration::from_millis(config.query_wait_ms_max),
            query_max: Duration::from_millis(config.query_ms_max),
            limits: config.query_limits(),
            sql: config.sql.clone(),
            sql_runtime: SqlRuntime::start(config.sql.threads())?,
            clock,
            stopping,
        })
    }

    /// The caller's tenant, with its index in memory.
    async fn tenant<T>(&self, request: &Request<T>, role: Role) -> Result<Arc<Tenant>, AnalyticsError> {
        let caller = Caller::of(request)?;
        let id = caller.tenant_with(role)?;
        // The gateway knows the tenant, or the call would not be here: the directory is behind, which passes.
        let tenant = self.tenants.get(id).ok_or_else(|| AnalyticsError::TenantUnknown { tenant: id.to_string() })?;
        if !tenant.modules.contains(Module::Analytics) {
            return Err(AnalyticsError::ModuleDisabled { tenant: id.to_string() });
        }
        self.index.load(id).await?;
        Ok(tenant)
    }

    /// Waits for the turn of a query. The permit is to be held until its work has really ended.
    async fn turn(&self, running: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, AnalyticsError> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.waiting_max.max(1) + running.available_permits() {
            return Err(AnalyticsError::Busy);
        }
        match tokio::time::timeout(self.wait_max, running.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(AnalyticsError::Stopped),
            Err(_) => Err(AnalyticsError::Busy),
        }
    }

    /// Runs a SQL statement in its turn, on the threads for SQL.
    async fn sql(&self, request: Request<QuerySqlRequest>) -> Result<QuerySqlResponse, AnalyticsError> {
        let tenant = self.tenant(&request, Role::Analyst).await?;
        let permit = self.turn(&self.sql_running).await?;
        let begun = Instant::now();
        let cancelled = self.stopping.child_token();
        let _guard = cancelled.clone().drop_guard();
        let index = self.index.cancelled_by(cancelled.clone());
        let snapshot = tokio::task::spawn_blocking(move || index.snapshot(&tenant.id)).await.map_err(|_| AnalyticsError::Stopped)??;
        let (text, limits) = sql::parse(request.into_inner(), &self.sql);
        let now = DateTime::from_timestamp_micros(self.clock.now_us()).unwrap_or_default();
        let answer = self.sql_runtime.run(snapshot, limits, now, text, cancelled, permit).await?;
        Ok(sql::reply(&answer, &self.sql, begun.elapsed().as_secs_f64())?)
    }

    /// Runs a query in its turn.
    async fn query<Q, A>(&self, request: Request<Q>, run: fn(&Context<'_>, &Q) -> Result<A, QueryError>) -> Result<A, AnalyticsError>
    where
        Q: Send + 'static,
        A: Send + 'static,
    {
        let tenant = self.tenant(&request, Role::Analyst).await?;
        let permit = self.turn(&self.running).await?;
        let query = request.into_inner();
        self.work(permit, move |index, limits, cancel| {
            let snapshot = index.snapshot(&tenant.id)?;
            let context = Context { snapshot: &snapshot, zone: tenant.time_zone, limits, cancel };
            Ok(run(&context, &query)?)
        })
        .await
    }

    /// Evaluates conditions in their turn, as soon as what the caller has read is indexed.
    async fn evaluate(&self, request: Request<EvaluateConditionsRequest>) -> Result<EvaluateConditionsResponse, AnalyticsError> {
        let tenant = self.tenant(&request, Role::Service).await?;
        let request = request.into_inner();
        let (wanted, wait) = evaluation::wanted(&self.index, &request)?;
        self.index.wait_until(&tenant.id, &wanted, wait).await?;
        let turn = tokio::time::timeout(self.wait_max, self.evaluating.clone().acquire_owned());
        let permit = turn.await.map_err(|_| AnalyticsError::Busy)?.map_err(|_| AnalyticsError::Stopped)?;
        self.work(permit, move |index, limits, cancel| {
            // First the positions, then what they lead to: the snapshot may then hold more, never less.
            let positions = index.positions();
            let snapshot = index.snapshot_of_now(&tenant.id)?;
            let reached_us = snapshot.watermark_us();
            if reached_us == 0 {
                return Err(NotYet::CatchingUp.into());
            }
            if reached_us < wanted.watermark_us {
                return Err(NotYet::Watermark { reached_us, wanted_us: wanted.watermark_us }.into());
            }
            let kept_from_us = index.kept_from_since(&tenant.id, request.removed_since_us);
            let context = Context { snapshot: &snapshot, zone: tenant.time_zone, limits, cancel };
            let answer = evaluation::evaluate(&context, &request, kept_from_us)?;
            Ok(EvaluateConditionsResponse { positions: evaluation::messages(positions), ..answer })
        })
        .await
    }

    /// Does plain, blocking work until it is done, the caller goes away or it takes too long. The permit is held until its thread is done.
    async fn work<A: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Index, QueryLimits, &CancellationToken) -> Result<A, AnalyticsError> + Send + 'static,
    ) -> Result<A, AnalyticsError> {
        // Dropped with this call, that is also when the caller goes away.
        let cancelled = self.stopping.child_token();
        let _guard = cancelled.clone().drop_guard();
        let index = self.index.cancelled_by(cancelled.clone());
        let limits = self.limits;
        let span = tracing::Span::current();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(|| work(&index, limits, &cancelled))
        });
        match tokio::time::timeout(self.query_max, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(broken)) => {
                tracing::error!(error = %broken, "a query broke off");
                Err(AnalyticsError::Stopped)
            }
            Err(_) => Err(AnalyticsError::DeadlineExceeded { limit_ms: self.query_max.as_millis() as u64 }),
        }
    }
}

#[tonic::async_trait]
impl AnalyticsService for Service {
    async fn query_events(&self, request: Request<QueryEventsRequest>) -> Result<Response<QueryEventsResponse>, Status> {
        reply(self.query(request, report::query).await)
    }

    async fn list_dimensions(&self, request: Request<ListDimensionsRequest>) -> Result<Response<ListDimensionsResponse>, Status> {
        reply(self.query(request, |context, _| Ok(report::list_dimensions(context))).await)
    }

    async fn query_funnel(&self, request: Request<QueryFunnelRequest>) -> Result<Response<QueryFunnelResponse>, Status> {
        reply(self.query(request, funnel::query).await)
    }

    async fn query_retention(&self, request: Request<QueryRetentionRequest>) -> Result<Response<QueryRetentionResponse>, Status> {
        reply(self.query(request, retention::query).await)
    }

    async fn query_path(&self, request: Request<QueryPathRequest>) -> Result<Response<QueryPathResponse>, Status> {
        reply(self.query(request, path::query).await)
    }

    async fn query_sessions(&self, request: Request<QuerySessionsRequest>) -> Result<Response<QuerySessionsResponse>, Status> {
        reply(self.query(request, sessions::query).await)
    }

    async fn select_persons(&self, request: Request<SelectPersonsRequest>) -> Result<Response<SelectPersonsResponse>, Status> {
        reply(self.query(request, persons::select).await)
    }

    async fn count_persons(&self, request: Request<CountPersonsRequest>) -> Result<Response<CountPersonsResponse>, Status> {
        reply(self.query(request, persons::count).await)
    }

    async fn evaluate_conditions(
        &self,
        request: Request<EvaluateConditionsRequest>,
    ) -> Result<Response<EvaluateConditionsResponse>, Status> {
        reply(self.evaluate(request).await)
    }

    async fn explain_condition(&self, request: Request<ExplainConditionRequest>) -> Result<Response<ExplainConditionResponse>, Status> {
        reply(self.query(request, explanation::query).await)
    }

    async fn get_person_timeline(&self, request: Request<GetPersonTimelineRequest>) -> Result<Response<GetPersonTimelineResponse>, Status> {
        reply(self.query(request, timeline::query).await)
    }

    async fn delete_person_events(
        &self,
        request: Request<DeletePersonEventsRequest>,
    ) -> Result<Response<DeletePersonEventsResponse>, Status> {
        reply(self.delete_person(request).await)
    }

    async fn list_dimension_values(
        &self,
        request: Request<ListDimensionValuesRequest>,
    ) -> Result<Response<ListDimensionValuesResponse>, Status> {
        reply(self.query(request, dimension_values::query).await)
    }

    async fn query_sql(&self, request: Request<QuerySqlRequest>) -> Result<Response<QuerySqlResponse>, Status> {
        reply(self.sql(request).await)
    }

    async fn get_index_status(&self, request: Request<GetIndexStatusRequest>) -> Result<Response<GetIndexStatusResponse>, Status> {
        reply(self.status(request).await)
    }
}

impl Service {
    async fn delete_person(&self, request: Request<DeletePersonEventsRequest>) -> Result<DeletePersonEventsResponse, AnalyticsError> {
        let tenant = self.tenant(&request, Role::Admin).await?;
        let DeletePersonEventsRequest { person, request_id } = request.into_inner();
        if person == 0 {
            return Err(QueryError::invalid("person", "is missing: person numbers start at 1").into());
        }
        if request_id.len() > REQUEST_ID_BYTES_MAX {
            let problem = format!("is {} bytes long; use at most {REQUEST_ID_BYTES_MAX}", request_id.len());
            return Err(QueryError::invalid("request_id", problem).into());
        }
        let deletion = self.index.delete_person(&tenant.id, person, &request_id).await?;
        if deletion.asked != person {
            let problem = format!("was used to delete person {}; use a new one for another", deletion.asked);
            return Err(QueryError::invalid("request_id", problem).into());
        }
        Ok(DeletePersonEventsResponse { person: deletion.person, deleted_at: Some(timestamp_of(deletion.deleted_us)) })
    }

    async fn status(&self, request: Request<GetIndexStatusRequest>) -> Result<GetIndexStatusResponse, AnalyticsError> {
        let tenant = self.tenant(&request, Role::Analyst).await?;
        self.index.status(&tenant.id).await
    }
}
