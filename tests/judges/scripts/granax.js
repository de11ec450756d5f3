// granax as judge: usage: node granax.js PACKAGE CONTROL_PORT WEB_PORT.
const [, , path, control, web] = process.argv;
const { TorController } = require(path);
const { connect } = require("net");
const tor = new TorController(connect(Number(control), "127.0.0.1"), { authOnConnect: true });
const call = (name, ...args) =>
  new Promise((resolve, reject) =>
    tor[name](...args, (error, got) => {
      console.log(name, error ? `fails: ${error.message}` : JSON.stringify(got));
      error ? reject(error) : resolve(got);
    }));
tor.on("error", (error) => { console.log("error", error.message); process.exit(1); });
tor.on("ready", async () => {
  try {
    await call("getInfo", "version");
    await call("getConfig", "SocksPort");
    await call("setConfig", "MaxCircuitDirtiness", "700");
    await call("resetConfig", "MaxCircuitDirtiness");
    await call("saveConfig");
    const circuit = await call("extendCircuit", "0");
    await new Promise((resolve) => setTimeout(resolve, 3000));
    // Its name has a mistake there.
    await call("closeCicuit", (circuit || "").toString().split(" ").pop());
    await call("signal", "NEWNYM");
    const heard = new Promise((resolve) => tor.once("BW", resolve));
    await call("addEventListeners", ["BW", "CIRC", "HS_DESC"]);
    console.log("BW", JSON.stringify(await heard));
    await call("removeEventListeners");
    const made = await call("createHiddenService", `127.0.0.1:${web}`, { virtualPort: 80 });
    await call("destroyHiddenService", made.serviceId);
    await call("quit");
    console.log("all asked");
    process.exit(0);
  } catch (error) {
    process.exit(1);
  }
});
