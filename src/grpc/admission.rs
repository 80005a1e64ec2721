//! Asks who calls, before a call reaches its method.

use super::status::status;
use crate::auth::{Caller, Gate, Right};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

/// Lets in calls of those whom the gate knows.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    gate: Gate,
    /// What every method of the service needs; where they differ, they ask themselves.
    right: Option<Right>,
}

impl Admission {
    pub(super) const fn new(gate: Gate, right: Option<Right>) -> Self {
        Self { gate, right }
    }

    /// The service, for those who are let in.
    pub(super) fn to<S>(self, service: S) -> InterceptedService<S, Self> {
        InterceptedService::new(service, self)
    }
}

impl Interceptor for Admission {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let admitted = self.gate.caller(request.metadata().as_ref()).and_then(|caller| {
            self.right.map_or(Ok(()), |right| caller.may(right))?;
            Ok(caller)
        });
        request.extensions_mut().insert(admitted.map_err(|error| status(&error))?);
        Ok(request)
    }
}

/// Who calls.
pub(super) fn caller<T>(request: &Request<T>) -> Caller {
    request.extensions().get::<Caller>().expect("no call reaches a method but by the admission").clone()
}
