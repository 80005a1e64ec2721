// One line of JSON on standard output.
export function report(event: string, fields: object): void {
  console.log(JSON.stringify({ event, ...fields }));
}
