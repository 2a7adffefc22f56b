//! The loops: observe, plan, execute.
