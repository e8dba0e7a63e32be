//! What is beside the machine: a network card's cable, a network of the scenario's own, key brokers in it.

pub mod broker;
pub mod card;
pub mod exchange;
pub mod nameserver;
pub mod service;
pub mod wire;
