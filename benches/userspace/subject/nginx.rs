use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use testbed::Protocol;

use super::{Limits, Running};
use crate::frontend;
use crate::place::Place;

pub(crate) fn start(place: &Place, limits: Limits) -> Result<Running> {
    let path = std::env::temp_dir().join("nginx.conf");
    fs::write(&path, configuration(place, limits)?)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.args(["-q", "-e", "stderr", "-c"]).arg(path);
    Running::program(place, command)
}

fn configuration(place: &Place, limits: Limits) -> Result<String> {
    let Limits { workers, descriptors, .. } = limits;
    // Both sides of a connection count, and all may come to one worker.
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off;\nuser root;\npid {}/nginx.pid;\nerror_log stderr crit;\n\
         worker_processes {workers};\nworker_rlimit_nofile {descriptors};\n\
         events {{ worker_connections {}; multi_accept on; }}\n\
         stream {{\n  access_log off;\n  proxy_timeout 1h;\n  tcp_nodelay on;\n",
        std::env::temp_dir().display(),
        2 * limits.most_connections()
    );
    for frontend in frontend::all() {
        let listen = match frontend.protocol {
            Protocol::Udp => "udp reuseport",
            _ => "reuseport backlog=4096",
        };
        writeln!(text, "  upstream {} {{", frontend.name)?;
        frontend.targets().try_for_each(|target| writeln!(text, "    server {target};"))?;
        writeln!(
            text,
            "  }}\n  server {{ listen {}:{} {listen}; proxy_pass {}; }}",
            place.node(),
            frontend.port,
            frontend.name
        )?;
    }
    text += "}\n";
    Ok(text)
}
