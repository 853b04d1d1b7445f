// Films: show frame i of every strip, move the cursor over its distances, reveal paths. Nothing else is scripted.
document.documentElement.classList.add("js");
for (const film of document.querySelectorAll(".film")) {
  const frames = Number(film.dataset.frames), steps = JSON.parse(film.dataset.steps);
  const slider = film.querySelector("input"), button = film.querySelector("button"), step = film.querySelector(".step");
  const grown = [...film.querySelectorAll("[data-grows]")].map((e) => [e, e.getAttribute("points").split(" ")]);
  const tracks = [...film.querySelectorAll(".track")].map((t) => ({
    image: t.querySelector("img"), across: Number(t.dataset.across), down: Number(t.dataset.down),
    cursor: t.querySelector(".cursor"), output: t.querySelector("output"),
    distances: t.dataset.distances ? JSON.parse(t.dataset.distances) : null,
  }));
  const show = (i) => {
    for (const t of tracks) {
      t.image.style.transform = `translate(${-(i % t.across) * 100 / t.across}%, ${-Math.floor(i / t.across) * 100 / t.down}%)`;
      if (!t.distances) continue;
      t.cursor.style.left = `${100 * i / Math.max(1, frames - 1)}%`;
      t.output.textContent = t.distances[i] ?? "–";
    }
    for (const e of film.querySelectorAll("[data-first]")) e.style.visibility = i >= +e.dataset.first && i <= +e.dataset.last ? "" : "hidden";
    for (const [e, points] of grown) e.setAttribute("points", points.slice(0, i + 1).join(" "));
    step.textContent = `step ${steps[i]}`;
  };
  let timer = null;
  const stop = () => { clearInterval(timer); timer = null; button.textContent = "▶"; };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (Number(slider.value) >= frames - 1) slider.value = 0;
    button.textContent = "❚❚";
    timer = setInterval(() => {
      show(Number(slider.value));
      if (Number(slider.value) >= frames - 1) stop(); else slider.value = Number(slider.value) + 1;
    }, 90);
  });
}
