//! Asks who calls, before a request reaches its handler.

use super::Routes;
use super::problem::Problem;
use crate::auth::{Caller, Gate, Right};
use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;

/// Who calls, for a handler. On a path that asks nobody there is none: a handler that wants one fails there.
pub(super) type Calling = Extension<Caller>;

/// The routes, for those whom the gate knows and who have the right, if one is needed for all of them.
pub(super) fn admitting(routes: Routes, gate: &Gate, right: Option<Right>) -> Routes {
    let admit = middleware::from_fn_with_state((gate.clone(), right), admit);
    routes.into_iter().map(|(path, methods)| (path, methods.route_layer(admit.clone()))).collect()
}

async fn admit(
    State((gate, right)): State<(Gate, Option<Right>)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = gate.caller(request.headers())?;
    tracing::Span::current().record("caller", caller.name());
    right.map_or(Ok(()), |right| caller.may(right))?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
