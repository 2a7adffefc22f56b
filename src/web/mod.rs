//! What browsers and the proxy ask for, beside the API.

pub mod gate;
