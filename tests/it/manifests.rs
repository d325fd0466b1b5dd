//! The manifests against a real API server: what people install, and what is refused with which words.

use crate::support::Result;
use crate::support::control_plane::ControlPlane;

#[tokio::test]
async fn starts() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    println!("{}", control_plane.kubectl().run(&["get", "crd"]).await?);
    Ok(())
}
