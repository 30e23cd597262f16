// The drawing sheet: strokes by pointer or keyboard, on the screen and as a PNG. Knows nothing of the service.
//
// A stroke is a list of points {x, y, width}; all lengths are fractions of the sheet's height.

const PNG_PX = 280;
const WIDE = 2.5; // width of the sheet for numbers, in heights, as in playground.css
const PEN = 0.075;
const PEN_STEP = 0.03; // per arrow key
const NEAREST = 0.004; // skip points closer to the last one

/** Listen on a canvas. `begin(stroke)` and `extend()` report a stroke, `abandon()` that it was cancelled, `pen(pen)` the
 *  keyboard's pen {x, y, down}, or null without one. */
export function listen(canvas, { begin, extend, abandon, pen: report }) {
  const pen = { x: 0.5, y: 0.5, down: false };
  let stroke = null;
  let pointer = null;

  const lift = () => {
    if (!pen.down) return;
    pen.down = false;
    report(pen);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    lift();
    report(null);
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    stroke = [pointOf(event, canvas)];
    begin(stroke);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) {
      const point = pointOf(each, canvas);
      const last = stroke.at(-1);
      if (Math.hypot(point.x - last.x, point.y - last.y) >= NEAREST) stroke.push(point);
    }
    extend();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (event.pointerId === pointer) pointer = null;
  });
  canvas.addEventListener("pointercancel", (event) => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    abandon();
  });

  canvas.addEventListener("keydown", (event) => {
    if (pointer !== null || event.ctrlKey || event.metaKey || event.altKey) return;
    const [across, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [];
    if (across !== undefined) {
      pen.x = within(pen.x + across * PEN_STEP, canvas.clientWidth / canvas.clientHeight);
      pen.y = within(pen.y + down * PEN_STEP, 1);
      if (pen.down) {
        stroke.push({ x: pen.x, y: pen.y, width: PEN });
        extend();
      }
    } else if (event.key !== " ") {
      return;
    } else if (pen.down) {
      lift();
    } else if (!event.repeat) {
      pen.down = true;
      stroke = [{ x: pen.x, y: pen.y, width: PEN }];
      begin(stroke);
    }
    event.preventDefault(); // would scroll the page
    report(pen);
  });
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) report(pen); // focused by keyboard
  });
  canvas.addEventListener("blur", () => {
    lift();
    report(null);
  });
  return { lift };
}

/** Paint the strokes and the keyboard's pen, if there is one. */
export function show(canvas, strokes, pen) {
  const [width, side] = [canvas.clientWidth, canvas.clientHeight].map((px) => Math.round(px * devicePixelRatio));
  if (canvas.width !== width || canvas.height !== side) Object.assign(canvas, { width, height: side });
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.clearRect(0, 0, width, side);
  paint(context, strokes, side, style.color);
  if (pen) paintPen(context, pen, side, style.accentColor);
}

/** Width and height of the PNG of a drawing. */
export const sizeOf = (wide) => [PNG_PX * (wide ? WIDE : 1), PNG_PX];

/** The PNG of a drawing: black on white, regardless of the colour scheme. */
export function png(strokes, wide) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = sizeOf(wide);
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  paint(context, strokes, PNG_PX, "#000");
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function pointOf(event, canvas) {
  const { left, top, height } = canvas.getBoundingClientRect();
  // A mouse reports 0.5, and so do devices without a pressure sensor; some report 0.
  const pressure = event.pointerType === "mouse" ? 0.5 : event.pressure || 0.5;
  return {
    x: (event.clientX - left) / height,
    y: (event.clientY - top) / height,
    width: PEN * (0.4 + 1.2 * pressure),
  };
}

function paint(context, strokes, side, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) paintStroke(context, stroke, side);
}

/** A curve through the midpoints of neighbouring points; each piece has their mean width. */
function paintStroke(context, points, side) {
  let from = points[0];
  context.beginPath();
  context.arc(from.x * side, from.y * side, (from.width * side) / 2, 0, 2 * Math.PI);
  context.fill();
  for (let i = 1; i < points.length; i++) {
    const [before, here] = [points[i - 1], points[i]];
    const to = i === points.length - 1 ? here : { x: (before.x + here.x) / 2, y: (before.y + here.y) / 2 };
    context.lineWidth = ((before.width + here.width) / 2) * side;
    context.beginPath();
    context.moveTo(from.x * side, from.y * side);
    context.quadraticCurveTo(before.x * side, before.y * side, to.x * side, to.y * side);
    context.stroke();
    from = to;
  }
}

function paintPen(context, pen, side, colour) {
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = side / 150;
  context.beginPath();
  context.arc(pen.x * side, pen.y * side, side * PEN * (pen.down ? 0.3 : 0.5), 0, 2 * Math.PI);
  context.stroke();
  if (pen.down) context.fill();
}

const within = (share, most) => Math.min(most - PEN / 2, Math.max(PEN / 2, share));
