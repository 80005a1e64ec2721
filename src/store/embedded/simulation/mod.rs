//! The durable engine, proven by simulation: its log is on a simulated disk, its threads are steps that the tests take in any order,
//! and the machine is crashed and damaged in every way that it may be.
//!
//! What must hold is told by [`witness`]; what is done with the store by [`world`]; on which machine by [`machine`]. The other
//! modules are the tests, each with its own kind of trouble. A seed brings a failure back: `SIMULATION_SEED`. More cases are tried
//! with `SIMULATION_CASES`.

mod callers;
mod machine;
mod witness;
mod world;

mod controls;
mod crashes;
mod damage;
mod dump;
mod faults;
mod format;
mod indexing;
mod keeping;
mod lives;
